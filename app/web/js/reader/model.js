// A transcript that is corrected: { segments, speakers, language, nextId }. Pure: every change is a new transcript.
// A segment is { id, start, end, speaker, words, text }; `speakers` gives each speaker's name by id.
import { editedWords, gapBetween, plainWords, rounded, textOf, untimed } from "./words.js";

const NUMBERED = /^spk_(\d+)$/;

/** The transcript in the JSON of a job's result. */
export function fromResult({ segments, language }) {
  const ids = new Map();
  const speakers = {};
  const idOf = (name) => {
    if (name == null) return null;
    if (!ids.has(name)) {
      const id = NUMBERED.test(name) ? name : freeId({ ...speakers, ...Object.fromEntries(segments.map((s) => [s.speaker, 1])) });
      ids.set(name, id);
      speakers[id] = NUMBERED.test(name) ? `Speaker ${name.match(NUMBERED)[1]}` : String(name);
    }
    return ids.get(name);
  };
  const made = segments.map((segment, i) => segmentOf({
    id: i + 1, start: segment.start, end: segment.end, speaker: idOf(segment.speaker), words: wordsOf(segment),
  }));
  return { segments: made, speakers, language, nextId: made.length + 1 };
}

function freeId(speakers) {
  const numbers = Object.keys(speakers).map((id) => Number(id.match(NUMBERED)?.[1] ?? 0));
  return `spk_${Math.max(0, ...numbers) + 1}`;
}

const segmentOf = (segment) => ({ ...segment, text: textOf(segment.words) });

/** The words with what stands between them, so that they rebuild the text. */
function wordsOf({ text, words }) {
  if (!words?.length) return plainWords(text.trim());
  const found = [];
  let at = 0;
  for (const { word, start, end, score } of words) {
    const written = word.trim();
    const place = text.indexOf(written, at);
    const between = place < 0 ? " " : text.slice(at, place);
    const strays = plainWords(between); // in the text, though no word has them
    strays.forEach((stray, i) => found.push(i ? stray : { ...stray, gap: leading(between) }));
    const gap = strays.length ? trailing(between) : between;
    found.push({ word: written, start: start ?? null, end: end ?? null, score: score ?? null, gap: found.length ? gap : "" });
    if (place >= 0) at = place + written.length;
  }
  const rest = text.slice(at);
  return [...found, ...plainWords(rest).map((stray, i) => (i ? stray : untimed(stray.word, leading(rest))))];
}

const leading = (text) => text.match(/^\s*/u)[0];
const trailing = (text) => text.match(/\s*$/u)[0];

/** The JSON of a result again; the rest of its fields are those of `body`. */
export function toResult(transcript, body = {}) {
  const nameOf = (id) => (id === null ? null : transcript.speakers[id]);
  const segments = transcript.segments.map(({ start, end, speaker, text, words }) => {
    const name = nameOf(speaker);
    const timed = words.some((word) => word.start !== null);
    const written = words.map((word) => ({ word: word.word, start: word.start, end: word.end, score: word.score, speaker: name }));
    return { start, end, speaker: name, text, ...(timed ? { words: written } : {}) };
  });
  return { ...body, language: transcript.language, segments };
}

// -- changes ---------------------------------------------------------------------------------------

export function rename(transcript, id, name) {
  const clean = name.replace(/\s+/gu, " ").trim();
  if (!clean || !(id in transcript.speakers) || transcript.speakers[id] === clean) return transcript;
  return { ...transcript, speakers: { ...transcript.speakers, [id]: clean } };
}

/** All that `from` said was said by `into`. */
export function merge(transcript, from, into) {
  if (from === into || !(from in transcript.speakers) || !(into in transcript.speakers)) return transcript;
  const { [from]: gone, ...speakers } = transcript.speakers;
  const segments = transcript.segments.map((segment) => (segment.speaker === from ? { ...segment, speaker: into } : segment));
  return { ...transcript, speakers, segments };
}

/** A new speaker; its id is that of the last one in `speakers`. */
export function addSpeaker(transcript) {
  const id = freeId(transcript.speakers);
  return { ...transcript, speakers: { ...transcript.speakers, [id]: `Speaker ${id.match(NUMBERED)[1]}` } };
}

export function assign(transcript, segmentId, speaker) {
  const segment = segmentWith(transcript, segmentId);
  if (!segment || segment.speaker === speaker || !(speaker === null || speaker in transcript.speakers)) return transcript;
  return replaced(transcript, segmentId, [{ ...segment, speaker }]);
}

/** Gives the words from `first` to `last` to another speaker, in a segment of their own. */
export function assignWords(transcript, segmentId, first, last, speaker) {
  const segment = segmentWith(transcript, segmentId);
  if (!segment || first > last || !segment.words[first] || !segment.words[last] || segment.speaker === speaker) return transcript;
  if (!(speaker in transcript.speakers)) return transcript;
  let changed = transcript, id = segmentId;
  if (last + 1 < segment.words.length) changed = split(changed, id, last + 1);
  if (first > 0) {
    id = changed.nextId;
    changed = split(changed, segmentId, first);
  }
  return assign(changed, id, speaker);
}

/** Two segments, the second from the word `at` on; it has the id `transcript.nextId`. */
export function split(transcript, segmentId, at) {
  const segment = segmentWith(transcript, segmentId);
  if (!segment || at <= 0 || at >= segment.words.length) return transcript;
  const [head, tail] = [segment.words.slice(0, at), segment.words.slice(at)];
  const [end, start] = timesOfCut(segment, head, tail);
  const parts = [
    segmentOf({ ...segment, end, words: head }),
    segmentOf({ ...segment, id: transcript.nextId, start, words: [{ ...tail[0], gap: "" }, ...tail.slice(1)] }),
  ];
  return { ...replaced(transcript, segmentId, parts), nextId: transcript.nextId + 1 };
}

/** When the first part ends and the second begins. */
function timesOfCut(segment, head, tail) {
  const last = head.findLast((word) => word.end !== null), first = tail.find((word) => word.start !== null);
  const share = textOf(head).length / Math.max(1, segment.text.length);
  const between = rounded(segment.start + share * (segment.end - segment.start));
  const end = last?.end ?? Math.min(between, first?.start ?? between);
  return [end, first?.start ?? Math.max(between, end)];
}

/** A segment together with the next one; its speaker is the first one's. */
export function join(transcript, segmentId) {
  const i = transcript.segments.findIndex(({ id }) => id === segmentId);
  const [first, second] = transcript.segments.slice(i, i + 2);
  if (i < 0 || !second) return transcript;
  const words = [...first.words, ...second.words.map((word, k) => (k ? word : { ...word, gap: gapBetween(first.text, second.text) }))];
  const end = Math.max(first.end, second.end);
  const joined = segmentOf({ ...first, start: Math.min(first.start, second.start), end, words });
  return { ...transcript, segments: transcript.segments.toSpliced(i, 2, joined) };
}

/** Another text for a segment. Without any, the segment is gone. */
export function editText(transcript, segmentId, text) {
  const segment = segmentWith(transcript, segmentId);
  const clean = text.replace(/\s+/gu, " ").trim();
  if (!segment || clean === segment.text) return transcript;
  if (!clean) return replaced(transcript, segmentId, []);
  const words = editedWords(segment.words, clean, segment.start, segment.end);
  return replaced(transcript, segmentId, [segmentOf({ ...segment, words })]);
}

/** The number of the word that a character of a segment's text belongs to. */
export function wordAtCharacter(segment, character) {
  let at = 0;
  for (const [i, { gap, word }] of segment.words.entries()) {
    at += (i ? gap.length : 0) + word.length;
    if (character < at) return i;
  }
  return segment.words.length;
}

export const segmentWith = (transcript, segmentId) => transcript.segments.find(({ id }) => id === segmentId);

function replaced(transcript, segmentId, segments) {
  const i = transcript.segments.findIndex(({ id }) => id === segmentId);
  return { ...transcript, segments: transcript.segments.toSpliced(i, 1, ...segments) };
}
