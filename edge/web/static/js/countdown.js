// The big number over the stage, and a short tone each second: who enrolls stands too far away to read the form.

const MUTED = "crossglg.muted";

export class Countdown {
  #shown = document.getElementById("count");
  #audio = null;
  #last = "";

  get isMuted() {
    return localStorage.getItem(MUTED) === "1";
  }

  set isMuted(is) {
    localStorage.setItem(MUTED, is ? "1" : "0");
  }

  // Called from a click: only then may a page sound.
  ready() {
    if (!this.isMuted) this.#audio ??= new AudioContext();
    this.#audio?.resume();
  }

  show(text, { high = false } = {}) {
    if (text === this.#last) return false;
    this.#last = text;
    this.#shown.textContent = text;
    this.#shown.hidden = !text;
    this.#shown.classList.toggle("word", text.length > 2);
    if (text) this.#sound(high ? 1040 : 660);
    return true;
  }

  #sound(hertz) {
    if (this.isMuted || this.#audio?.state !== "running") return;
    const [tone, gain] = [this.#audio.createOscillator(), this.#audio.createGain()];
    const now = this.#audio.currentTime;
    tone.frequency.value = hertz;
    gain.gain.setValueAtTime(0.12, now);
    gain.gain.exponentialRampToValueAtTime(0.001, now + 0.18);
    tone.connect(gain).connect(this.#audio.destination);
    tone.start(now);
    tone.stop(now + 0.2);
  }
}
