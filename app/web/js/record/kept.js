// The recordings of this browser: hand in, follow, listen, download, delete.
import { html, useEffect, useRef, useState } from "../../vendor/htm-preact.js";
import { pollJob, submitFile } from "../api/jobs.js";
import { onOwner } from "../keys/owner.js";
import { saveAs } from "../parts/download.js";
import { ago, clock } from "../parts/format.js";
import { say } from "../parts/messages.js";
import { currentParameters } from "../parts/options.js";
import { addressOf } from "../route.js";
import { discard, lockOf, recordingNow, recordings, soundOf, update } from "./recordings.js";

const REFUSED = [400, 413, 415, 422]; // the next try is another one, with the options as they are then

/** made: a recording to hand in at once. active: whether one is being made. */
export function Kept({ made, active }) {
  const [list, setList] = useState([]);
  const refresh = async () => {
    const [found, busy] = await Promise.all([recordings(), recordingNow()]);
    setList(found.filter(({ id }) => !busy.has(lockOf(id))));
  };
  useEffect(() => { refresh().catch(cannotKeep); }, [made, active]);
  useEffect(() => onOwner(() => refresh().catch(cannotKeep)), []);
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
  const [done, setDone] = useState(recording.transcribed ? recording.taskId : "");
  const leaving = useRef(new AbortController());
  const send = () => perform(async () => {
    setProgress("Sending …");
    recording.parameters ??= currentParameters();
    await update(recording);
    const { task_id: taskId } = await submitFile(await soundOf(recording), recording.parameters, {
      key: `${recording.id}-${recording.failures ?? 0}`, // however often it is sent, it is one job
      onProgress: (share) => setProgress(`Sending, ${Math.round(100 * share)} %`),
    });
    await follow(Object.assign(recording, { taskId, error: "" }));
  });
  const follow = async () => {
    await update(recording);
    setProgress("Waiting for its turn …");
    const tell = ({ status, progress }) => {
      if (status === "processing") setProgress(`Transcribing, ${progress} %`);
    };
    const last = await pollJob(recording.taskId, tell, leaving.current.signal);
    await settle(last);
  };
  const settle = async ({ status, error, audio }) => {
    if (status === "done") {
      if (audio) await discard(recording);
      else await update(Object.assign(recording, { transcribed: true, error: "" })); // nobody else has the sound
      setDone(recording.taskId);
      return;
    }
    await anew(error?.message ?? "It was cancelled.");
  };
  const anew = (error) => update(Object.assign(recording, {
    taskId: "", parameters: undefined, failures: (recording.failures ?? 0) + 1, error,
  }));
  const perform = async (work) => {
    try {
      await work();
    } catch (error) {
      if (leaving.current.signal.aborted) return;
      if (REFUSED.includes(error.status) || (error.status === 404 && recording.taskId)) await anew(error.message);
      else await update(Object.assign(recording, { error: error.message }));
    }
    setProgress(null);
  };
  useEffect(() => {
    if (recording.transcribed) return undefined;
    if (recording.taskId) perform(follow);
    else if (now) send();
    return () => leaving.current.abort();
  }, []);
  const drop = async () => {
    if (!confirm(`Delete “${recording.name}”? ${done ? "The service has only its transcript." : "It has not been transcribed."}`)) return;
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
        ${done && recording.transcribed && html`<div class="small">Transcribed. The service has not kept the sound, so it stays here until you delete it.</div>`}
        ${!progress && recording.error && html`<div class="small notice bad" role="alert">${recording.error} The recording is still here.</div>`}
      </div>
      ${done && html`<a class="button main" href=${addressOf("job", done)}>Open the transcript</a>`}
      ${!progress && (!done || recording.transcribed) && html`
        ${!done && html`<button class="main" onClick=${send}>${recording.error ? "Try again" : "Transcribe"}</button>`}
        <button onClick=${download}>Download</button>
        <button class="bad" onClick=${drop}>Delete</button>`}
    </li>`;
}

function cannotKeep() {
  say("This browser keeps nothing for this page (perhaps a private window). Recordings would be lost.", "warn");
}
