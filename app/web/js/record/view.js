// Record from the microphone, and hand recordings in. What is recorded stays here until it is transcribed.
import { html, useEffect, useRef, useState } from "../../vendor/htm-preact.js";
import { clock } from "../parts/format.js";
import { Level } from "../parts/level.js";
import { closeMicrophone, hasMicrophone, NO_MICROPHONE_HERE, openMicrophone } from "../parts/microphone.js";
import { say } from "../parts/messages.js";
import { Options } from "../parts/options.js";
import { Kept } from "./kept.js";
import { Recorder } from "./recorder.js";

export function RecordView() {
  const session = useRef(null); // { stream, recorder }
  const left = useRef(false);
  const [state, setState] = useState("idle"); // idle, asking, recording, paused, stopping
  const [made, setMade] = useState(null); // the recording that has just ended
  const finish = async () => {
    const { stream, recorder } = session.current ?? {};
    if (!recorder) return;
    session.current = null;
    setState("stopping");
    const recording = await recorder.stop();
    closeMicrophone(stream);
    setState("idle");
    setMade(recording);
  };
  const fault = (text) => {
    say(text, "bad");
    finish();
  };
  const start = async () => {
    setState("asking");
    let stream;
    try {
      stream = await openMicrophone();
      if (left.current) return closeMicrophone(stream);
      const recorder = new Recorder(stream, fault);
      await recorder.start();
      session.current = { stream, recorder };
      if (left.current) return finish();
      setState("recording");
    } catch (error) {
      closeMicrophone(stream);
      say(error.message, "bad");
      setState("idle");
    }
  };
  const toggle = () => {
    const { recorder } = session.current;
    const paused = state === "paused";
    if (paused) recorder.resume();
    else recorder.pause();
    setState(paused ? "recording" : "paused");
  };
  useEffect(() => () => { left.current = true; finish(); }, []); // another view is opened
  useEffect(() => warnBeforeLeaving(state !== "idle"), [state !== "idle"]);
  const active = state === "recording" || state === "paused";
  return html`
    <section aria-labelledby="record-title">
      <h2 id="record-title">Record</h2>
      ${!hasMicrophone() && html`<p class="notice warn">${NO_MICROPHONE_HERE}</p>`}
      <div class="recorder ${state}">
        ${active ? html`
          <${Elapsed} recorder=${session.current?.recorder} />
          <${Level} stream=${session.current?.stream} paused=${state === "paused"} />
          <div class="row">
            <button onClick=${toggle}>${state === "paused" ? "Resume" : "Pause"}</button>
            <button class="main" onClick=${finish}>Stop and transcribe</button>
          </div>
          <p class="pale" role="status">${state === "paused" ? "Paused." : "Recording. It is kept in this browser as you speak."}</p>`
    : html`
          <button class="main large" disabled=${state !== "idle" || !hasMicrophone()} onClick=${start}>
            <span class="dot" aria-hidden="true"></span>${state === "idle" ? "Start recording" : "One moment …"}
          </button>
          <p class="pale">Everything stays in this browser until its transcript is done.</p>`}
      </div>
      <${Options} />
    </section>
    <${Kept} made=${made} active=${active} />`;
}

function Elapsed({ recorder }) {
  const [seconds, setSeconds] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => setSeconds(recorder?.seconds ?? 0), 250);
    return () => clearInterval(timer);
  }, [recorder]);
  return html`<p class="elapsed" aria-label="Recorded time">${clock(seconds)}</p>`;
}

function warnBeforeLeaving(active) {
  if (!active) return undefined;
  const warn = (event) => event.preventDefault();
  addEventListener("beforeunload", warn);
  return () => removeEventListener("beforeunload", warn);
}
