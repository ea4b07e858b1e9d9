export default { id: "thresholds", title: "Thresholds", mount() {} };
