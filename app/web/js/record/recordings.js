// Recordings in this browser: kept in pieces while they are made, until their transcript is done.
import { currentOwner } from "../keys/owner.js";
import { all, amend, get, put, removeWhole } from "../parts/idb.js";

const STORE = "recordings";
const pieceKey = (id, number) => `${id}/${number}`;
export const lockOf = (id) => `recording ${id}`;

/** A key's recordings, and those that were made without one, newest first: {id, owner, name, type, startedAt, seconds,
 * pieces, taskId, error, parameters, transcribed}. */
export async function recordings() {
  const isMine = ({ owner }) => !owner || owner === currentOwner();
  const found = (await all(STORE)).filter((value) => !(value instanceof Blob) && isMine(value));
  return found.sort((one, other) => other.startedAt.localeCompare(one.startedAt));
}

/** Ids of recordings that a tab is making now. */
export async function recordingNow() {
  const { held = [] } = (await navigator.locks?.query()) ?? {};
  return new Set(held.map(({ name }) => name));
}

export const note = (recording) => put(STORE, recording.id, recording);
export const keepPiece = (id, number, blob) => put(STORE, pieceKey(id, number), blob);

export async function soundOf({ id, pieces, name, type }) {
  const blobs = await Promise.all(Array.from({ length: pieces }, (_, number) => get(STORE, pieceKey(id, number))));
  return new File(blobs.filter(Boolean), name, { type });
}

/** Changes what is known of a recording, unless it has been discarded. It is now that of whoever has a key. */
export const update = (recording) => amend(STORE, recording.id, Object.assign(recording, { owner: recording.owner || currentOwner() || "" }));
export const discard = ({ id }) => removeWhole(STORE, id);
