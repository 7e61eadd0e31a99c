// Where a text occurs in a transcript. Pure.

const MOST = 20_000;

/** [{ segment, first, last }]: the numbers of the segment and of its words, in order. */
export function occurrences(segments, wanted) {
  const text = wanted.replace(/\s+/gu, " ").trim();
  if (!text) return [];
  const pattern = new RegExp(escaped(text), "giu");
  const found = [];
  for (const [s, segment] of segments.entries()) {
    const matches = [...segment.text.matchAll(pattern)];
    if (matches.length) found.push(...wordsHit(segment, matches).map((hit) => ({ segment: s, ...hit })));
    if (found.length > MOST) break;
  }
  return found;
}

const escaped = (text) => text.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&");

function wordsHit(segment, matches) {
  const ends = [];
  let at = 0;
  segment.words.forEach(({ gap, word }, i) => ends.push(at += (i ? gap.length : 0) + word.length));
  let first = 0;
  return matches.map(({ index, 0: { length } }) => {
    while (ends[first] <= index) first++;
    let last = first;
    while (ends[last] < index + length) last++;
    return { first, last };
  });
}
