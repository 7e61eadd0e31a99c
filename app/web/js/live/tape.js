// The sound that the service may still need, so that a lost connection loses no word: what no final
// transcript covers, and in which the service has not found that nobody speaks.
const LONGEST_S = 600;

export class Tape {
  constructor(rate) {
    this.rate = rate;
    this.pieces = [];
    this.startS = 0; // of the first piece, in seconds of the stream
    this.endS = 0;
  }

  add(piece) {
    this.pieces.push(piece);
    this.endS += piece.length / this.rate;
    this.forget(this.endS - LONGEST_S);
  }

  /** Drop whole pieces that end before this time. */
  forget(untilS) {
    let drop = 0;
    while (drop < this.pieces.length && this.startS + this.pieces[drop].length / this.rate <= untilS) {
      this.startS += this.pieces[drop].length / this.rate;
      drop += 1;
    }
    if (drop) this.pieces.splice(0, drop);
  }
}
