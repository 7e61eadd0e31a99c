// Words of a text that was edited: unchanged ones keep their times, new ones get some in between. Pure.
// A word is { word, start, end, score, gap }; `gap` is what stands before it in the text of its segment.

const ALONE = "[\\p{Script=Han}\\p{Script=Hiragana}\\p{Script=Katakana}\\p{Script=Thai}\\p{Script=Lao}\\p{Script=Khmer}\\p{Script=Myanmar}]";
const TOKEN = new RegExp(`${ALONE}\\p{M}*|(?:(?!${ALONE})[\\p{L}\\p{N}\\p{M}])+|\\s+|.`, "gsu");
const IS_ALONE = new RegExp(`^${ALONE}`, "u");
const ENDS_ALONE = new RegExp(`[${ALONE}、。！？]$`, "v");
const IS_WRITTEN = /[\p{L}\p{N}]/u;
const MOST_DIFFERENCES = 400; // beyond that, all between the first and the last one counts as new

/** What stands between two texts that are joined: nothing in scripts without spaces. */
export const gapBetween = (before, after) => (ENDS_ALONE.test(before) && IS_ALONE.test(after) ? "" : " ");

export const textOf = (words) => words.map(({ gap, word }, i) => (i ? gap : "") + word).join("");

/** The words of a text that has none with times. */
export function plainWords(text) {
  return [...text.matchAll(/(\s*)(\S+)/gu)].map(([, gap, word], i) => untimed(word, i ? gap : ""));
}

export const untimed = (word, gap) => ({ word, start: null, end: null, score: null, gap });

/** The words of `text`, in the place of `old`. Times lie between `start` and `end`. */
export function editedWords(old, text, start, end) {
  const before = textOf(old);
  const same = unchangedCharacters(before, text);
  const spans = spansOf(old);
  const cuts = boundaries(old, spans, same, text);
  const owners = ownersOf(spans, same, text.length);
  const words = pieces(text, cuts).map(([begin, finish, gap]) => wordAt(old, owners, text, begin, finish, gap));
  return old.some((word) => word.start !== null) ? withTimes(withSharedTimes(words, old), old, start, end) : words.map(bare);
}

const bare = ({ word, gap }) => untimed(word, gap);

/** Begin and end of each word in the text that they make. */
function spansOf(words) {
  let at = 0;
  return words.map(({ gap, word }, i) => {
    const begin = at + (i ? gap.length : 0);
    at = begin + word.length;
    return [begin, at];
  });
}

/** For each character of `before`: its place in `after`, or -1. */
function unchangedCharacters(before, after) {
  const a = tokensOf(before), b = tokensOf(after);
  const places = new Int32Array(before.length).fill(-1);
  for (const [i, j] of commonTokens(a, b)) {
    for (let k = 0; k < a[i].text.length; k++) places[a[i].at + k] = b[j].at + k;
  }
  return places;
}

function tokensOf(text) {
  return [...text.matchAll(TOKEN)].map((match) => ({ text: match[0], at: match.index }));
}

/** Pairs of equal tokens in order, as many as there can be. */
function commonTokens(a, b) {
  let first = 0, lastA = a.length, lastB = b.length;
  while (first < lastA && first < lastB && a[first].text === b[first].text) first++;
  while (lastA > first && lastB > first && a[lastA - 1].text === b[lastB - 1].text) { lastA--; lastB--; }
  const pairs = [];
  for (let i = 0; i < first; i++) pairs.push([i, i]);
  pairs.push(...commonBetween(a.slice(first, lastA), b.slice(first, lastB)).map(([i, j]) => [first + i, first + j]));
  for (let i = 0; lastA + i < a.length; i++) pairs.push([lastA + i, lastB + i]);
  return pairs;
}

/** Source: E. Myers, An O(ND) difference algorithm and its variations (1986). */
function commonBetween(a, b) {
  const reached = [];
  let furthest = new Map([[1, 0]]);
  for (let d = 0; d <= Math.min(MOST_DIFFERENCES, a.length + b.length); d++) {
    reached.push(furthest);
    furthest = new Map(furthest);
    for (let k = -d; k <= d; k += 2) {
      const down = k === -d || (k !== d && furthest.get(k - 1) < furthest.get(k + 1));
      let i = down ? furthest.get(k + 1) : furthest.get(k - 1) + 1;
      while (i < a.length && i - k < b.length && a[i].text === b[i - k].text) i++;
      furthest.set(k, i);
      if (i >= a.length && i - k >= b.length) return walkedBack(reached, a.length, b.length);
    }
  }
  return [];
}

function walkedBack(reached, i, j) {
  const pairs = [];
  for (let d = reached.length - 1; d >= 0; d--) {
    const furthest = reached[d], k = i - j;
    const down = k === -d || (k !== d && furthest.get(k - 1) < furthest.get(k + 1));
    const before = down ? furthest.get(k + 1) : furthest.get(k - 1) + 1;
    while (i > before && i > 0 && i - k > 0) pairs.push([--i, i - k]);
    if (d) [i, j] = down ? [i, i - k - 1] : [i - 1, i - k];
  }
  return pairs.reverse();
}

/** Where a word ends in the new text although no space follows: there it did before, or its script has none. */
function boundaries(old, spans, same, text) {
  const cuts = new Set();
  spans.forEach(([begin], i) => {
    if (i && old[i].gap === "" && same[begin] >= 0) cuts.add(same[begin]);
  });
  const kept = new Set();
  spans.forEach(([begin, end]) => {
    for (let k = begin + 1; k < end; k++) if (same[k] >= 0 && same[k - 1] === same[k] - 1) kept.add(same[k]);
  });
  for (const { text: token, at } of tokensOf(text)) {
    if (at && IS_ALONE.test(token) && !kept.has(at)) cuts.add(at);
  }
  return cuts;
}

/** For each character of the new text: the old word that it is from, or -1. */
function ownersOf(spans, same, length) {
  const owners = new Int32Array(length).fill(-1);
  spans.forEach(([begin, end], i) => {
    for (let k = begin; k < end; k++) if (same[k] >= 0) owners[same[k]] = i;
  });
  return owners;
}

/** [begin, end, gap] of each new word. */
function pieces(text, cuts) {
  const found = [];
  for (const match of text.matchAll(/(\s*)(\S+)/gu)) {
    let begin = match.index + match[1].length;
    const end = match.index + match[0].length;
    let gap = found.length ? match[1] : "";
    for (let at = begin + 1; at <= end; at++) {
      if (at < end && !cuts.has(at)) continue;
      found.push([begin, at, gap]);
      begin = at;
      gap = "";
    }
  }
  return found;
}

function wordAt(old, owners, text, begin, end, gap) {
  const word = text.slice(begin, end);
  const from = new Set();
  for (let k = begin; k < end; k++) if (owners[k] >= 0 && IS_WRITTEN.test(text[k])) from.add(owners[k]);
  if (!from.size) for (let k = begin; k < end; k++) if (owners[k] >= 0) from.add(owners[k]);
  const owned = [...from].sort((one, other) => one - other);
  const sources = owned.map((i) => old[i]);
  const same = sources.length === 1 && sources[0].word === word;
  if (same) return { ...sources[0], gap, owned };
  const timed = sources.filter(({ start }) => start !== null);
  const times = timed.length ? { start: timed[0].start, end: timed.at(-1).end } : { start: undefined, end: undefined };
  return { word, ...times, score: sources.length === 1 ? sources[0].score : null, gap, owned };
}

/** Words that are parts of the same old ones share their time, with what was written in between. */
function withSharedTimes(words, old) {
  const result = words.slice();
  for (let i = 0; i < words.length; i++) {
    const last = lastOfPart(words, i);
    if (last === i) continue;
    const parts = words.slice(i, last + 1).flatMap(({ owned }) => owned);
    const timed = parts.map((part) => old[part]).filter(({ start }) => start !== null);
    if (timed.length) share(result, i, last + 1, timed[0].start, timed.at(-1).end);
    i = last;
  }
  return result;
}

/** The last word that belongs to the same old ones as the first, or to the same as one between them. */
function lastOfPart(words, first) {
  let last = first, reach = words[first].owned.at(-1) ?? -1;
  for (let i = first + 1; i < words.length; i++) {
    const { owned } = words[i];
    if (!owned.length) continue;
    if (owned[0] > reach) break;
    last = i;
    reach = owned.at(-1);
  }
  return last;
}

/** New words share the time of those that they replace, or else that between their neighbors. */
function withTimes(words, old, start, end) {
  const result = words.slice();
  for (let i = 0; i < words.length;) {
    if (words[i].start !== undefined) { i++; continue; }
    let next = i;
    while (next < words.length && words[next].start === undefined) next++;
    const before = lastTime(result, i) ?? start;
    const after = firstTime(words, next) ?? end;
    const [from, to] = replacedTime(old, before, after);
    share(result, i, next, from, to);
    i = next;
  }
  return result.map(({ owned, ...word }) => word);
}

function lastTime(words, i) {
  while (--i >= 0) if (words[i].end != null) return words[i].end;
  return null;
}

function firstTime(words, i) {
  for (; i < words.length; i++) if (words[i].start != null) return words[i].start;
  return null;
}

/** When the old words were spoken between these times; all the time if there were none. */
function replacedTime(old, before, after) {
  const inside = old.filter((word) => word.start !== null && word.start >= before && word.end <= after);
  return inside.length ? [inside[0].start, inside.at(-1).end] : [before, Math.max(before, after)];
}

function share(words, first, next, from, to) {
  const step = (to - from) / (next - first);
  for (let i = first; i < next; i++) {
    words[i] = { ...words[i], start: rounded(from + (i - first) * step), end: rounded(from + (i - first + 1) * step) };
  }
}

export const rounded = (seconds) => Math.round(seconds * 1000) / 1000;
