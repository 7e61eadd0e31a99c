// Records a MediaStream; every piece is in the browser's database before the next comes.
import { currentOwner } from "../keys/owner.js";
import { keepPiece, lockOf, note } from "./recordings.js";

const PIECE_MS = 2000;
const TYPES = [["audio/webm;codecs=opus", "webm"], ["audio/mp4", "m4a"], ["audio/ogg;codecs=opus", "ogg"]];

function named(date, extension) {
  const two = (number) => String(number).padStart(2, "0");
  const day = [date.getFullYear(), two(date.getMonth() + 1), two(date.getDate())].join("-");
  return `Recording ${day} ${two(date.getHours())}.${two(date.getMinutes())}.${extension}`;
}

export class Recorder {
  /** `onFault` hears why nothing more is recorded. */
  constructor(stream, onFault) {
    const [type, extension] = TYPES.find(([type]) => MediaRecorder.isTypeSupported(type)) ?? ["", "webm"];
    const now = new Date();
    this.recording = {
      id: crypto.randomUUID?.() ?? String(now.getTime()), owner: currentOwner() ?? "", name: named(now, extension), type: type.split(";")[0],
      startedAt: now.toISOString(), seconds: 0, pieces: 0, taskId: "", error: "",
    };
    this.onFault = onFault;
    this.before = 0; // seconds until the last pause
    this.since = null;
    this.kept = Promise.resolve();
    this.media = new MediaRecorder(stream, type ? { mimeType: type, audioBitsPerSecond: 64_000 } : {});
    this.media.ondataavailable = ({ data }) => this.keep(data);
    this.media.onerror = ({ error }) => onFault(`The recording stopped: ${error?.message ?? "unknown"}`);
    this.ended = new Promise((resolve) => { this.media.onstop = resolve; });
    stream.getAudioTracks()[0].onended = () => onFault("The microphone was disconnected.");
  }

  get seconds() {
    return this.before + (this.since === null ? 0 : (performance.now() - this.since) / 1000);
  }

  async start() {
    await note(this.recording); // fails before anything is said, where nothing can be kept
    navigator.locks?.request(lockOf(this.recording.id), () => this.ended.then(() => this.kept));
    this.media.start(PIECE_MS);
    this.since = performance.now();
  }

  keep(data) {
    if (!data.size) return;
    this.kept = this.kept.then(() => this.write(data)).catch(
      () => this.onFault("The browser has no room to keep more of this recording."),
    );
  }

  async write(data) {
    await keepPiece(this.recording.id, this.recording.pieces, data);
    this.recording.pieces += 1;
    this.recording.seconds = this.seconds;
    await note(this.recording);
  }

  pause() {
    this.media.pause();
    this.before = this.seconds;
    this.since = null;
  }

  resume() {
    this.media.resume();
    this.since = performance.now();
  }

  /** The recording, once all of it is kept. */
  async stop() {
    this.before = this.seconds;
    this.since = null;
    if (this.media.state !== "inactive") this.media.stop();
    await this.ended;
    await this.kept;
    return this.recording;
  }
}
