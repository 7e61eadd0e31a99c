// The recordings of this browser: hand in, follow, listen, download, delete.
import { html, useEffect, useState } from "../../vendor/htm-preact.js";
import { followJob, statusOf, submitFile } from "../api/jobs.js";
import { saveAs } from "../parts/download.js";
import { ago, clock } from "../parts/format.js";
import { say } from "../parts/messages.js";
import { currentParameters } from "../parts/options.js";
import { addressOf } from "../route.js";
import { discard, lockOf, note, recordingNow, recordings, soundOf } from "./recordings.js";

/** made: a recording to hand in at once. active: whether one is being made. */
export function Kept({ made, active }) {
  const [list, setList] = useState([]);
  const refresh = async () => {
    const [found, busy] = await Promise.all([recordings(), recordingNow()]);
    setList(found.filter(({ id }) => !busy.has(lockOf(id))));
  };
  useEffect(() => { refresh().catch(cannotKeep); }, [made, active]);
  if (!list.length) return null;
  return html`
    <section aria-labelledby="kept-title">
      <h2 id="kept-title">Recordings in this browser</h2>
      <ul class="kept">
        ${list.map((recording) => html`
          <${Recording} key=${recording.id} recording=${recording} now=${recording.id === made?.id} onChange=${refresh} />`)}
      </ul>
    </section>`;
}

function Recording({ recording, now, onChange }) {
  const [progress, setProgress] = useState(null); // a sentence, while something goes on
  const [done, setDone] = useState("");
  const send = () => perform(async () => {
    setProgress("Sending …");
    const { task_id: taskId } = await submitFile(await soundOf(recording), currentParameters(), {
      key: `${recording.id}-${recording.failures ?? 0}`, // however often it is sent, it is one job
      onProgress: (share) => setProgress(`Sending, ${Math.round(100 * share)} %`),
    });
    await follow(Object.assign(recording, { taskId, error: "" }));
  });
  const follow = async () => {
    await note(recording);
    setProgress("Waiting for its turn …");
    const last = await followJob(recording.taskId, ({ status, progress }) => {
      if (status === "processing") setProgress(`Transcribing, ${progress} %`);
    });
    await settle(last);
  };
  const settle = async ({ status, error }) => {
    if (status === "done") {
      await discard(recording);
      setDone(recording.taskId);
      return;
    }
    const failures = (recording.failures ?? 0) + 1;
    await note(Object.assign(recording, { taskId: "", failures, error: error?.message ?? "It was cancelled." }));
  };
  const perform = async (work) => {
    try {
      await work();
    } catch (error) {
      await note(Object.assign(recording, { taskId: error.status === 404 ? "" : recording.taskId, error: error.message }));
    }
    setProgress(null);
  };
  useEffect(() => {
    if (recording.taskId) perform(async () => { await statusOf(recording.taskId); await follow(); });
    else if (now) send();
  }, []);
  const drop = async () => {
    if (!confirm(`Delete “${recording.name}”? It has not been transcribed.`)) return;
    await discard(recording);
    onChange();
  };
  const download = async () => saveAs(await soundOf(recording), recording.name);
  return html`
    <li class="row">
      <div class="grow">
        <div class="name">${recording.name}</div>
        <div class="small pale">${clock(recording.seconds)}, ${ago(recording.startedAt)}</div>
        ${progress && html`<div class="small" role="status">${progress}</div>`}
        ${!progress && recording.error && html`<div class="small notice bad" role="alert">${recording.error} The recording is still here.</div>`}
      </div>
      ${done ? html`<a class="button main" href=${addressOf("job", done)}>Open the transcript</a>`
    : !progress && html`
        <button class="main" onClick=${send}>${recording.error ? "Try again" : "Transcribe"}</button>
        <button onClick=${download}>Download</button>
        <button class="bad" onClick=${drop}>Delete</button>`}
    </li>`;
}

function cannotKeep() {
  say("This browser keeps nothing for this page (perhaps a private window). Recordings would be lost.", "warn");
}
