// What was said so far, from the events of the stream. Pure functions over an immutable list.
//
// An utterance: {key, start, committed, tentative, text, words, speaker, language, final}.
import { joined } from "../parts/words.js";

const empty = (key) => ({
  key, start: null, end: null, committed: [], tentative: [], text: "", words: [], speaker: null, language: "", final: false,
});

/** The captions after an event; `epoch` counts connections, whose utterances begin at 0 again. */
export function heard(captions, event, epoch) {
  if (event.event === "speakers") return labelled(captions, event.speakers, epoch);
  const key = `${epoch}-${event.utterance}`;
  switch (event.event) {
    case "speech_started": return changed(captions, key, { start: event.at });
    case "partial": return changed(captions, key, (before) => ({
      committed: [...before.committed, ...event.committed], tentative: event.tentative, language: event.language,
    }));
    case "final": return changed(captions, key, {
      start: event.start, end: event.end, text: event.text, words: event.words, speaker: event.speaker ?? null,
      language: event.language, tentative: [], final: true,
    }).filter(({ key: other, text }) => other !== key || text);
    case "dropped": return captions.filter(({ key: other }) => other !== key);
    default: return captions;
  }
}

function changed(captions, key, change) {
  const at = captions.findIndex((caption) => caption.key === key);
  const before = at < 0 ? empty(key) : captions[at];
  const after = { ...before, ...(typeof change === "function" ? change(before) : change) };
  return at < 0 ? [...captions, after] : captions.with?.(at, after) ?? captions.map((old, place) => (place === at ? after : old));
}

function labelled(captions, speakers, epoch) {
  const names = new Map(speakers.map(({ utterance, speaker }) => [`${epoch}-${utterance}`, speaker]));
  return captions.map((caption) => (names.has(caption.key) ? { ...caption, speaker: names.get(caption.key) } : caption));
}

/** Without what no final transcript covers: its sound is heard again. */
export const settled = (captions) => captions.filter(({ final }) => final);

export const isSpeaking = (captions) => captions.some(({ final }) => !final);

/** As the service's result: for downloads. */
export function transcriptOf(captions) {
  const spoken = captions.filter(({ text, final }) => final && text);
  return {
    language: spoken[0]?.language ?? "",
    duration: spoken.at(-1)?.end ?? 0,
    segments: spoken.map(({ start, end, text, speaker, words }) => ({ start, end, text, speaker, words })),
  };
}

export const textOf = (captions) => captions
  .map(({ final, text, speaker, committed, tentative }) => {
    const words = final ? text : joined([...committed, ...tentative].map(({ word }) => word));
    return speaker ? `${speaker}: ${words}` : words;
  }).join("\n");
