// Corrections, kept in this browser until they are discarded; and told to its other tabs.
import { currentOwner } from "../keys/owner.js";
import { get, put, remove } from "../parts/idb.js";

const FORM = 1; // of what is kept
const LAST_WORDS_MS = 5000;
/** Each key has its own, also of the same job. */
const editsKey = (id) => (currentOwner() ? `${id} ${currentOwner()}` : id);
const draftKey = (id) => `draft:${editsKey(id)}`; // of a text that is being typed

/** { edits: { transcript, about }, draft: { segment, text } }; each null where there is none. */
export async function keptEdits(id) {
  const [edits, draft] = await Promise.all([get("edits", editsKey(id)), get("edits", draftKey(id))]).catch(() => []);
  return { edits: edits?.form === FORM ? edits : null, draft: draft ?? null };
}

/** `about`: the fields of the job's result beside its segments. */
export const keepEdits = (id, transcript, about) =>
  put("edits", editsKey(id), { form: FORM, id, transcript, about, savedAt: new Date().toISOString() });
export const forgetEdits = (id) => remove("edits", editsKey(id));
export const keepDraft = (id, segment, text) => put("edits", draftKey(id), { segment, text });
export const forgetDraft = (id) => remove("edits", draftKey(id));

/** Tells the other tabs with this job what changed, and hears from them. */
export function otherTabs(id, onChange) {
  const channel = new BroadcastChannel("transcribe.edits");
  channel.onmessage = ({ data }) => { if (data === id) onChange(); };
  const close = () => { // what was being typed is still to be told
    channel.onmessage = null;
    setTimeout(() => { channel.close(); tell = () => {}; }, LAST_WORDS_MS);
  };
  let tell = () => channel.postMessage(id);
  return { tell: () => tell(), close };
}
