// Live captions of the microphone: certain words solid, tentative ones pale.
import { html, useEffect, useRef, useState } from "../../vendor/htm-preact.js";
import { Level } from "../parts/level.js";
import { hasMicrophone, NO_MICROPHONE_HERE } from "../parts/microphone.js";
import { heard, isSpeaking, settled } from "./captions.js";
import { Captions } from "./caption_list.js";
import { LiveConnection } from "./connection.js";
import { Downloads } from "./downloads.js";
import { listenToMicrophone } from "./microphone_pieces.js";
import { Options, useOptions } from "./options.js";

export function LiveView() {
  const session = useRef({}); // { microphone, connection }
  const [state, setState] = useState("idle"); // idle, connecting, open, lost, ending, ended, failed
  const [sentence, setSentence] = useState("");
  const [captions, setCaptions] = useState([]);
  const [options, changeOption] = useOptions();
  const silence = () => {
    session.current.microphone?.close();
    session.current.microphone = null;
  };
  const follow = (next, words) => {
    setSentence(words);
    setState((before) => (before === "ending" && next === "open" ? before : next));
    if (next === "lost") setCaptions(settled);
    if (next === "ended" || next === "failed") silence();
  };
  const start = async () => {
    setState("connecting");
    setCaptions([]);
    setSentence("");
    const current = {};
    session.current = current;
    try {
      current.microphone = await listenToMicrophone((piece) => current.connection?.say(piece), () => stop("The microphone was disconnected."));
    } catch (error) {
      follow("failed", error.message);
      return;
    }
    const onEvent = (event, epoch) => setCaptions((before) => heard(before, event, epoch));
    current.connection = new LiveConnection(options, current.microphone.rate, { onEvent, onState: follow });
  };
  const stop = (words = "") => {
    silence();
    setState("ending");
    setSentence(words || "Waiting for the last words …");
    session.current.connection?.end();
  };
  useEffect(() => () => {
    silence();
    session.current.connection?.abandon();
  }, []);
  const active = ["connecting", "open", "lost"].includes(state);
  return html`
    <section aria-labelledby="live-title">
      <h2 id="live-title">Live</h2>
      ${!hasMicrophone() && html`<p class="notice warn">${NO_MICROPHONE_HERE}</p>`}
      <div class="row live-controls">
        ${active ? html`<button class="main" onClick=${() => stop()}>Stop</button>`
    : html`<button class="main" disabled=${!hasMicrophone() || state === "ending"} onClick=${start}>
            <span class="dot" aria-hidden="true"></span>${captions.length ? "Start anew" : "Start"}</button>`}
        ${active && html`<div class="grow"><${Level} stream=${session.current.microphone?.stream} /></div>`}
        <${Status} state=${state} speaking=${isSpeaking(captions)} />
      </div>
      ${sentence && html`<p class="notice ${state === "failed" ? "bad" : state === "lost" ? "warn" : ""}" role="status">${sentence}</p>`}
      <${Options} options=${options} onChange=${changeOption} disabled=${active || state === "ending"} />
      <${Captions} captions=${captions} active=${active} />
      ${!active && state !== "ending" && captions.length > 0 && html`<${Downloads} captions=${captions} />`}
    </section>`;
}

const WORDS = { connecting: "Connecting …", lost: "Connecting again …", ending: "Finishing …" };

function Status({ state, speaking }) {
  const words = state === "open" ? (speaking ? "Listening: speech" : "Listening") : WORDS[state] ?? "";
  return html`<span class="pale small">${words}</span>`;
}
