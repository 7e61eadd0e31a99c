// What runs on the service now, for whom, and how far it is; and the own jobs that wait.
import { html, useEffect, useState } from "../../vendor/htm-preact.js";
import { call, callJson } from "../api/http.js";
import { Fault } from "../parts/fault.js";
import { clock } from "../parts/format.js";
import { say } from "../parts/messages.js";

const EVERY_MS = 2000;
const KINDS = { transcription: "Transcription", live: "Live stream", job: "Job" };

export function QueueView() {
  const [seen, setSeen] = useState(null);
  const [trouble, setTrouble] = useState(null);
  const [turn, setTurn] = useState(0);
  useEffect(() => regularly(async () => {
    try {
      const [{ requests }, waiting] = await Promise.all([callJson("queue"), waitingJobs()]);
      setSeen({ requests, waiting });
      setTrouble(null);
    } catch (error) {
      setTrouble(error);
      return error.status !== 401; // nobody is asked for a key again and again
    }
    return true;
  }), [turn]);
  return html`
    <section aria-labelledby="queue-title">
      <h2 id="queue-title">What runs now</h2>
      ${trouble && html`<${Fault} error=${trouble} what="The queue is" onAgain=${() => setTurn(turn + 1)} />`}
      ${seen && html`<${Requests} requests=${seen.requests} />
        ${seen.waiting > 0 && html`<p>${seen.waiting} ${seen.waiting === 1 ? "job of yours waits" : "jobs of yours wait"} for ${seen.waiting === 1 ? "its" : "their"} turn.</p>`}`}
    </section>`;
}

/** Calls `work` at once and then in regular intervals while the page is seen, until it says that it is enough. */
function regularly(work) {
  let timer = 0;
  let over = false;
  const next = async () => {
    const goesOn = document.hidden || await work();
    if (goesOn && !over) timer = setTimeout(next, EVERY_MS);
  };
  next();
  return () => {
    over = true;
    clearTimeout(timer);
  };
}

async function waitingJobs() {
  try {
    return (await callJson("history?status=queued&limit=1")).total;
  } catch (error) {
    if (error.status === 404) return 0; // jobs are turned off
    throw error;
  }
}

function Requests({ requests }) {
  if (!requests.length) return html`<p class="pale">Nothing. The service waits for work.</p>`;
  return html`
    <ul class="requests">
      ${requests.map((request) => html`<${Request} key=${request.id} request=${request} />`)}
    </ul>`;
}

function Request({ request }) {
  const { id, client, kind, state, model, audio_seconds: audio, progress, elapsed_seconds: elapsed, seconds_left: left } = request;
  const [gone, setGone] = useState(false);
  const cancel = async () => {
    try {
      await call(`queue/${encodeURIComponent(id)}`, { method: "DELETE" });
      setGone(true);
    } catch (error) {
      say(error.message, "bad");
    }
  };
  const facts = [model, client && `for ${client}`, audio && `${clock(audio)} of audio`, `since ${clock(elapsed)}`, left !== null && `about ${clock(left)} left`];
  return html`
    <li>
      <div class="row">
        <div class="grow">
          <strong>${KINDS[kind] ?? kind}</strong> <span class="pale">${gone ? "being cancelled" : state}</span>
          <div class="small pale">${facts.filter(Boolean).join(" · ")}</div>
        </div>
        <button class="bad" disabled=${gone} onClick=${cancel} aria-label=${`Cancel ${KINDS[kind] ?? kind}`}>Cancel</button>
      </div>
      ${kind !== "live" && html`<progress max="1" value=${progress} aria-label="Share done"></progress>`}
    </li>`;
}
