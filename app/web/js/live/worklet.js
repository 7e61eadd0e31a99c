// In the audio thread: hands the microphone's samples on in pieces of a tenth of a second.
class Pieces extends AudioWorkletProcessor {
  constructor() {
    super();
    this.piece = new Float32Array(Math.round(sampleRate / 10));
    this.filled = 0;
  }

  process([[samples]]) {
    if (!samples) return true;
    for (let at = 0; at < samples.length;) {
      const count = Math.min(samples.length - at, this.piece.length - this.filled);
      this.piece.set(samples.subarray(at, at + count), this.filled);
      this.filled += count;
      at += count;
      if (this.filled === this.piece.length) this.flush();
    }
    return true;
  }

  flush() {
    const pcm = Int16Array.from(this.piece, (sample) => Math.max(-1, Math.min(1, sample)) * 32767);
    this.port.postMessage(pcm, [pcm.buffer]);
    this.filled = 0;
  }
}

registerProcessor("pieces", Pieces);
