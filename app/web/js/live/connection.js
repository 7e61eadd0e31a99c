// One live transcription over /stream. A lost connection is made again, and the sound since the last
// final transcript is sent once more.
import { addressOfApi, call } from "../api/http.js";
import { currentKey } from "../keys/store.js";
import { Tape } from "./tape.js";

const RETRIES_MS = [300, 1000, 2000, 4000, 8000];
const AGAIN = new Set([1005, 1006, 1011, 1012]); // others tell of something that another try does not change
const MOST_BUFFERED = 1 << 20;
const PUMP_MS = 50;
const UNHEARD = "The service could not be reached again: the last words are missing.";
const NO_PLACE = "The service takes no live stream now: all its places may be taken, or a proxy passes no WebSockets on.";

/** Names of protocols may have none of the characters that this encodes. Source: RFC 9110, 5.6.2. */
const keyProtocol = (key) => (key ? [`openai-insecure-api-key.${encodeURIComponent(key).replace(/[()]/g, (sign) => `%${sign.charCodeAt().toString(16)}`)}`] : []);

export class LiveConnection {
  /** listener: {onEvent(event, epoch), onState(state, sentence)}; state: connecting, open, lost, ended, failed. */
  constructor(options, rate, listener) {
    this.options = options;
    this.listener = listener;
    this.tape = new Tape(rate);
    this.rate = rate;
    this.epoch = 0;
    this.tries = 0;
    this.speaking = new Set();
    this.connect();
  }

  connect() {
    const address = addressOfApi("stream");
    address.protocol = address.protocol.replace("http", "ws");
    const socket = new WebSocket(address, ["stream", ...keyProtocol(currentKey())]);
    this.socket = socket;
    this.ready = this.toldEnd = false;
    socket.onopen = () => socket.send(JSON.stringify(this.config()));
    socket.onmessage = ({ data }) => this.hear(JSON.parse(data));
    socket.onclose = ({ code, reason }) => this.closed(code, reason);
  }

  config() {
    return {
      ...this.options, events: true, encoding: "int16", sample_rate: this.rate, chunk_duration: 60,
      resume_from_s: this.tape.startS,
    };
  }

  hear(message) {
    if (message.status === "connected") this.greeted();
    else if (message.status === "ended") this.over = true;
    else if (message.status === "lagging") this.listener.onState("open", "The service is busy: words come late.");
    else if (message.status === "error") this.complaint = message.message;
    else if (message.event) this.tell(message);
  }

  greeted() {
    this.ready = true;
    this.tries = 0;
    this.speaking.clear();
    this.listener.onState("open", "");
    this.unsent = [...this.tape.pieces];
    this.pump();
  }

  /** Sends what there is as fast as the network takes it, then perhaps the end. */
  pump() {
    clearTimeout(this.timer);
    if (!this.ready) return;
    while (this.unsent.length && this.socket.bufferedAmount < MOST_BUFFERED) this.socket.send(this.unsent.shift());
    if (this.unsent.length) this.timer = setTimeout(() => this.pump(), PUMP_MS);
    else if (this.ending && !this.toldEnd) {
      this.toldEnd = true;
      this.socket.send(JSON.stringify({ command: "end" }));
    }
  }

  tell(event) {
    if (event.event === "speech_started") this.speaking.add(event.utterance);
    if (event.event === "dropped") this.speaking.delete(event.utterance);
    if (event.event === "final") this.settle(event);
    if (event.event === "silence" && !this.speaking.size) this.tape.forget(event.until);
    this.listener.onEvent(event, this.epoch);
  }

  /** Finals come in order: one before without a final has failed. */
  settle({ utterance, end }) {
    for (const begun of this.speaking) if (begun <= utterance) this.speaking.delete(begun);
    this.tape.forget(end);
  }

  /** The next piece of sound, an Int16Array. */
  say(piece) {
    this.tape.add(piece);
    if (!this.ready) return;
    this.unsent.push(piece);
    if (this.unsent.length > this.tape.pieces.length) this.socket.close(); // ten minutes behind: what is left is on the tape
    else this.pump();
  }

  /** No more sound; onState hears `ended` after the last words. */
  end() {
    this.ending = true;
    if (this.ready) this.pump();
    else if (this.socket.readyState === WebSocket.CLOSED) { // one more try at once
      clearTimeout(this.timer);
      this.connect();
    }
  }

  closed(code, reason) {
    const wasReady = this.ready;
    this.ready = false;
    clearTimeout(this.timer);
    if (this.over || code === 1000) this.listener.onState("ended", "");
    else if (this.ending && !wasReady && this.epoch) this.listener.onState("ended", UNHEARD);
    else if (AGAIN.has(code) && (wasReady || this.epoch)) this.again();
    else if (code === 1006) this.refused();
    else this.listener.onState("failed", this.complaint || reason || "The service ended the stream.");
  }

  again() {
    this.epoch += 1;
    const wait = RETRIES_MS[Math.min(this.tries, RETRIES_MS.length - 1)];
    this.tries += 1;
    this.listener.onState("lost", "The connection was lost. What you say is kept, up to ten minutes; connecting again …");
    this.timer = setTimeout(() => this.connect(), wait);
  }

  /** A browser does not tell why a handshake was refused, but the same address over HTTP does. */
  async refused() {
    const before = currentKey();
    const error = await call("stream").catch((reason) => reason);
    if (this.abandoned) return;
    if (error.status === 426 && currentKey() !== before) this.connect(); // one was given meanwhile
    else this.listener.onState("failed", error.status === 426 ? NO_PLACE : error.message);
  }

  abandon() {
    this.abandoned = true;
    clearTimeout(this.timer);
    this.socket.onclose = null;
    this.socket.onmessage = null;
    this.socket.close();
  }
}
