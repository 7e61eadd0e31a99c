// Opens a job's transcript: the result from the service, and the corrections that this browser has kept.
import { ENDED, followJob, resultOf, statusOf } from "../api/jobs.js";
import { keptEdits } from "./edits.js";
import { editText, fromResult } from "./model.js";

/** { original, kept, restored, about, missing }: as the service has it, as this browser has kept it, and with what was
 * being typed. `onWaiting(status)` while the job is not done. Throws ApiError. */
export async function openJob(id, onWaiting, signal) {
  const result = await finished(id, onWaiting, signal).catch((error) => error);
  const { edits, draft } = await keptEdits(id); // not before it is known whose they are
  if (result instanceof Error && !edits) throw result;
  const missing = result instanceof Error ? result.message : ""; // the corrections outlive what is on the service
  const original = missing ? edits.transcript : fromResult(result);
  const kept = edits?.transcript ?? original;
  const restored = draft?.text.trim() ? editText(kept, draft.segment, draft.text) : kept;
  return { original, kept, restored, about: missing ? edits.about : about(result), missing };
}

function about({ segments, full_text, language, ...rest }) {
  return rest;
}

/** The result once there is one, and whether the recording is kept. */
async function finished(id, onWaiting, signal) {
  let status = await statusOf(id);
  if (!ENDED.has(status.status)) status = await followJob(id, onWaiting, signal);
  return { ...(await resultOf(id)), audio: status.audio };
}
