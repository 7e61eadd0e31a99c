// What people do to a transcript, with the words that "undo" says.
import { addSpeaker, assign, assignWords, editText, join, merge, rename, segmentWith, split, wordAtCharacter } from "./model.js";

/** `edits`: see editing.js. */
export function changesOf(edits) {
  const given = (transcript, { id, first, last }, speaker) =>
    (first === undefined ? assign(transcript, id, speaker) : assignWords(transcript, id, first, last, speaker));
  return {
    rename: (id, name) => edits.apply("Renamed a speaker", (at) => rename(at, id, name)),
    merge: (from, into) => edits.apply("Merged speakers", (at) => merge(at, from, into)),
    give: (menu, speaker) => edits.apply("Changed the speaker", (at) => given(at, menu, speaker)),
    giveToNew: (menu) => edits.apply("Changed the speaker", (at) => {
      const more = addSpeaker(at);
      return given(more, menu, Object.keys(more.speakers).at(-1));
    }),
    join: (id) => edits.apply("Joined segments", (at) => join(at, id)),
    remove: (id) => edits.apply("Removed a segment", (at) => editText(at, id, "")),
    /** `head`: the text before the place where it is split, or null. */
    text: (id, text, head) => edits.apply(head === null ? "Edited text" : "Split a segment", (at) => {
      const edited = editText(at, id, text);
      const segment = head === null ? null : segmentWith(edited, id);
      return segment ? split(edited, id, wordAtCharacter(segment, head.replace(/\s+/gu, " ").trim().length)) : edited;
    }),
  };
}
