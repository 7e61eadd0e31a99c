// The sound that no final transcript covers yet, so that a lost connection loses no word.
const LONGEST_S = 600;
const PAUSE_S = 3; // kept while nobody speaks: the begin of an utterance is told a little late

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

  forgetPause() {
    this.forget(this.endS - PAUSE_S);
  }
}
