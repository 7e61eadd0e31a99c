// The transcript as it is now: every change can be undone, and is kept in the browser at once.
import { useEffect, useMemo, useRef, useState } from "../../vendor/htm-preact.js";
import { say } from "../parts/messages.js";
import { forgetDraft, forgetEdits, keepDraft, keepEdits, keptEdits, otherTabs } from "./edits.js";
import { begin, changed, redone, undone } from "./history.js";

const LOST = "This browser keeps no data, so changes are lost when the page is closed. Download the transcript to keep them.";
const quietly = (promise) => promise.catch(() => say(LOST, "warn"));

export function useEditing(id, { original, kept, restored, about, missing }) {
  const [history, setHistory] = useState(() => changed(begin(kept), restored, "Edited text"));
  const now = useRef(history);
  const tabs = useRef();

  const show = (next) => {
    if (next === now.current) return false;
    now.current = next;
    setHistory(next);
    return true;
  };
  const keep = () => {
    const { present } = now.current;
    const done = present === original && !missing ? forgetEdits(id) : keepEdits(id, present, about);
    quietly(done.then(() => tabs.current?.tell()));
  };
  const turn = (step) => { if (show(step(now.current))) keep(); };

  useEffect(() => {
    if (restored !== kept) keep(); // what was being typed is part of it now
    quietly(forgetDraft(id));
    tabs.current = otherTabs(id, async () => {
      const { edits } = await keptEdits(id);
      show(changed(now.current, edits?.transcript ?? original, "Changes in another tab"));
    });
    return () => tabs.current.close();
  }, []);

  const acts = useMemo(() => ({
    /** change(transcript): the new one. */
    apply: (label, change) => turn((at) => changed(at, change(at.present), label)),
    undo: () => turn(undone),
    redo: () => turn(redone),
    discard: () => turn((at) => changed(at, original, "Discarded edits")),
    typing: (segment, text) => quietly(keepDraft(id, segment, text)),
    typed: () => quietly(forgetDraft(id)),
  }), []);
  return { history, transcript: history.present, edited: history.present !== original, acts };
}
