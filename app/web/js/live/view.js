// Live captions of the microphone: certain words solid, tentative ones pale.
import { html, useEffect, useRef, useState } from "../../vendor/htm-preact.js";
import { Level } from "../parts/level.js";
import { hasMicrophone, NO_MICROPHONE_HERE } from "../parts/microphone.js";
import { store } from "../parts/store.js";
import { heard, isSpeaking, settled } from "./captions.js";
import { Captions } from "./caption_list.js";
import { LiveConnection } from "./connection.js";
import { Downloads } from "./downloads.js";
import { listenToMicrophone } from "./microphone_pieces.js";
import { Options, useOptions } from "./options.js";

const spoken = store([]); // outlives this view
let taken = spoken.get(); // what was last copied or downloaded

/** Captions that nobody has taken are gone with the page. */
addEventListener("beforeunload", (event) => {
  if (spoken.get().length && spoken.get() !== taken) event.preventDefault();
});

export function LiveView() {
  const session = useRef({}); // { microphone, connection }
  const [state, setState] = useState("idle"); // idle, connecting, open, lost, ending, ended, failed
  const [sentence, setSentence] = useState("");
  const captions = spoken.use();
  const [options, changeOption] = useOptions();
  const silence = () => {
    session.current.microphone?.close();
    session.current.microphone = null;
  };
  const follow = (next, words) => {
    setSentence(words);
    setState((before) => (before === "ending" && ["open", "lost"].includes(next) ? before : next));
    if (next === "lost") spoken.set(settled(spoken.get()));
    if (next === "ended" || next === "failed") silence();
  };
  const onEvent = (event, epoch) => spoken.set(heard(spoken.get(), event, epoch));
  const start = async () => {
    setState("connecting");
    setSentence("");
    const current = {};
    session.current = current;
    try {
      const microphone = await listenToMicrophone((piece) => current.connection?.say(piece), () => stop("The microphone was disconnected."));
      if (session.current !== current) return microphone.close(); // stopped, or left, before it was allowed
      current.microphone = microphone;
      spoken.set([]);
      current.connection = new LiveConnection(options, microphone.rate, { onEvent, onState: follow });
    } catch (error) {
      if (session.current === current) follow("failed", error.message);
    }
  };
  const stop = (words = "") => {
    silence();
    if (!session.current.connection) {
      session.current = {};
      setState("idle");
      return;
    }
    setState("ending");
    setSentence(words || "Waiting for the last words …");
    session.current.connection.end();
  };
  useEffect(() => () => {
    silence();
    session.current.connection?.abandon();
    session.current = {};
    spoken.set(settled(spoken.get()));
  }, []);
  const active = ["connecting", "open", "lost"].includes(state);
  return html`
    <section aria-labelledby="live-title">
      <h2 id="live-title">Live</h2>
      ${!hasMicrophone() && html`<p class="notice warn">${NO_MICROPHONE_HERE}</p>`}
      <div class="row live-controls">
        ${active ? html`<button class="main" onClick=${() => stop()}>Stop</button>`
    : html`<${StartButton} captions=${captions} disabled=${!hasMicrophone() || state === "ending"} onStart=${start} />`}
        ${active && html`<div class="grow"><${Level} stream=${session.current.microphone?.stream} /></div>`}
        <${Status} state=${state} speaking=${isSpeaking(captions)} />
      </div>
      ${sentence && html`<p class="notice ${state === "failed" ? "bad" : state === "lost" ? "warn" : ""}" role="status">${sentence}</p>`}
      <${Options} options=${options} onChange=${changeOption} disabled=${active || state === "ending"} />
      <${Captions} captions=${captions} active=${active} />
      ${(!active || state === "lost") && captions.length > 0 && html`<${Downloads} captions=${captions} onTaken=${() => { taken = captions; }} />`}
    </section>`;
}

/** Asks before captions are lost that nobody has taken. */
function StartButton({ captions, disabled, onStart }) {
  const dialog = useRef();
  const press = () => (captions.length && captions !== taken ? dialog.current.showModal() : onStart());
  return html`
    <button class="main" disabled=${disabled} onClick=${press}>
      <span class="dot" aria-hidden="true"></span>${captions.length ? "Start anew" : "Start"}</button>
    <dialog ref=${dialog} aria-labelledby="anew-title">
      <form method="dialog">
        <h2 id="anew-title">Start anew?</h2>
        <p>You have not copied or downloaded what was said so far. It will be gone.</p>
        <div class="row">
          <button autofocus>Keep it</button>
          <button class="plain bad" onClick=${onStart}>Start anew without it</button>
        </div>
      </form>
    </dialog>`;
}

const WORDS = { connecting: "Connecting …", lost: "Connecting again …", ending: "Finishing …" };

function Status({ state, speaking }) {
  const words = state === "open" ? (speaking ? "Listening: speech" : "Listening") : WORDS[state] ?? "";
  return html`<span class="pale small">${words}</span>`;
}
