// What this browser keeps of a key, and its end.
import { all, keys, remove, removeWhole } from "../parts/idb.js";
import { currentOwner } from "./owner.js";

const OWN_SETTINGS = "transcribe.";

/** Of the key that the service has accepted; of everybody where there is none. */
const isTheirs = (owner) => currentOwner() === null || !owner || owner === currentOwner();

/** { recordings, uploads, edits }: keys of what is kept. */
export async function keptHere() {
  const [recordings, uploads, edits] = await Promise.all([all("recordings"), all("uploads"), keys("edits")]);
  const idsOf = (values) => values.filter((value) => !(value instanceof Blob) && isTheirs(value.owner)).map(({ id }) => id);
  return { recordings: idsOf(recordings), uploads: idsOf(uploads), edits: edits.filter((key) => isTheirs(key.split(" ")[1])) };
}

export async function clear({ recordings, uploads, edits }) {
  await Promise.all([
    ...recordings.map((id) => removeWhole("recordings", id)), ...uploads.map((id) => remove("uploads", id)), ...edits.map((key) => remove("edits", key)),
  ]);
  Object.keys(localStorage).filter((name) => name.startsWith(OWN_SETTINGS)).forEach((name) => localStorage.removeItem(name));
}

const some = (number, one, several) => number > 0 && `${number} ${number === 1 ? one : several}`;

/** "1 recording and the corrections of 2 transcripts"; "" where nothing is kept. */
export function inWords({ recordings, uploads, edits }) {
  const transcripts = new Set(edits.map((key) => key.replace("draft:", ""))).size;
  const corrected = some(transcripts, "transcript", "transcripts");
  const parts = [
    some(recordings.length, "recording", "recordings"), some(uploads.length, "file on its way", "files on their way"), corrected && `the corrections of ${corrected}`,
  ].filter(Boolean);
  return parts.length > 1 ? `${parts.slice(0, -1).join(", ")} and ${parts.at(-1)}` : parts.join("");
}
