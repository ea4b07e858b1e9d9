"""ResNet-18 without its classifier, with the names of torchvision, whose ImageNet weights it takes from a file.

torchvision itself is not used: the wheels on PyPI are built against a CUDA torch, and do not load beside torch for
CPUs. Source of the layout: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016.

Shapes: N images, C channels, H and W pixels.
"""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from torch import Tensor, nn

from streams.errors import ConfigError

NUM_FEATURES = 512
_HINT = "Name torchvision's resnet18-f37072fd.pth, or its state dict as .safetensors."


class ResNet18(nn.Module):
    """Turn images (N, 3, H, W) into features (N, 512); 11,176,512 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = nn.Sequential(BasicBlock(64, 64, 1), BasicBlock(64, 64, 1))
        self.layer2 = nn.Sequential(BasicBlock(64, 128, 2), BasicBlock(128, 128, 1))
        self.layer3 = nn.Sequential(BasicBlock(128, 256, 2), BasicBlock(256, 256, 1))
        self.layer4 = nn.Sequential(BasicBlock(256, 512, 2), BasicBlock(512, 512, 1))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Return each image's features, averaged over its places."""
        x = nn.functional.max_pool2d(self.bn1(self.conv1(x_NCHW)).relu(), 3, stride=2, padding=1)
        features: Tensor = self.layer4(self.layer3(self.layer2(self.layer1(x)))).mean(dim=(2, 3))
        return features


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels_out:
            shortcut = nn.Conv2d(channels_in, channels_out, 1, stride=stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(channels_out))

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Return what the next block takes."""
        out: Tensor = self.bn2(self.conv2(self.bn1(self.conv1(x_NCHW)).relu()))
        out = out + self.downsample(x_NCHW)
        return out.relu()


def load_imagenet(trunk: ResNet18, path: Path) -> None:
    """Take the weights of torchvision's ResNet-18 from a file; its classifier, fc, is left out. Raises ConfigError."""
    weights = _read(path)
    own = trunk.state_dict()
    found = {key: value for key, value in weights.items() if not key.startswith("fc.")}
    # A file without the number of batches seen, which counts nothing here, is as good.
    missing = [key for key in own if key not in found and not key.endswith("num_batches_tracked")]
    unknown = [key for key in found if key not in own]
    if missing or unknown:
        said = f"{', '.join(missing[:3])} missing" if missing else f"{', '.join(unknown[:3])} not expected"
        raise ConfigError(
            f"{path} holds no ResNet-18 of torchvision: {len(missing)} keys missing, {len(unknown)} unknown ({said})",
            hint=_HINT,
        )
    for key, value in found.items():
        if value.shape != own[key].shape:
            raise ConfigError(
                f"{path}: {key} has shape {tuple(value.shape)}, expected {tuple(own[key].shape)} of ResNet-18",
                hint=_HINT,
            )
    trunk.load_state_dict(own | found)


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        weights = torch.load(path, weights_only=True, map_location="cpu")
    except FileNotFoundError as error:
        raise ConfigError(f"{path} is missing", hint=_HINT) from error
    except Exception as error:  # torch and safetensors raise errors of many kinds for files of another kind
        if isinstance(error, (KeyboardInterrupt, MemoryError)):
            raise
        reason = str(error).strip().split("\n")[0]
        kind = "a pickle that is no state dict" if isinstance(error, pickle.UnpicklingError) else reason
        raise ConfigError(f"{path} cannot be read as weights: {kind}", hint=_HINT) from error
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise ConfigError(f"{path} holds no state dict: expected names with tensors", hint=_HINT)
    return weights
