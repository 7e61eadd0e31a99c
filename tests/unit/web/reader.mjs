// The reader's pure modules; test_reader_modules.py runs it.
import assert from "node:assert/strict";
import { test } from "node:test";
import { pathToFileURL } from "node:url";

const folder = pathToFileURL(`${process.env.READER}/`);
const load = (name) => import(new URL(name, folder));
const model = await load("model.js");
const { begin, changed, undone, redone } = await load("history.js");
const { timesOf, placeAt } = await load("times.js");
const { occurrences } = await load("find.js");
const { textOf } = await load("words.js");

const said = (text, start, speaker) => {
  const words = text.split(" ").map((word, i) => ({ word, start: start + i, end: start + i + 0.8, score: 0.9, speaker }));
  return { start, end: words.at(-1).end, speaker, text, words };
};
const BODY = {
  language: "en",
  segments: [said("Good morning, everyone.", 0, "spk_1"), said("Thank you for the invitation.", 4, "spk_2"), said("Shall we begin?", 10, "spk_1")],
};
const frozen = (value) => {
  if (value && typeof value === "object" && !Object.isFrozen(value)) {
    Object.freeze(value);
    Object.values(value).forEach(frozen);
  }
  return value;
};
const original = frozen(model.fromResult(BODY));
const words = (transcript) => transcript.segments.flatMap((segment) => segment.words);
const edited = (text, id = 2) => model.segmentWith(model.editText(original, id, text), id);
const timed = (segment) => segment.words.map(({ word, start, end }) => [word, start, end]);

test("a result comes back as it was, with the speakers' names", () => {
  const body = model.toResult(original, { duration: 13 });
  assert.equal(body.duration, 13);
  assert.deepEqual(original.speakers, { spk_1: "Speaker 1", spk_2: "Speaker 2" });
  const named = (segment) => ({ ...segment, speaker: segment.speaker.replace("spk_", "Speaker ") });
  assert.deepEqual(body.segments, BODY.segments.map((segment) => ({ ...named(segment), words: segment.words.map(named) })));
});

test("words rebuild their text, whatever stands between them", () => {
  const texts = [["你好，世界。", ["你", "好，", "世", "界。"]], ["a – b (c) d", ["a", "b", "d"]], ["x", ["y"]], ["one  two", ["one", "two"]], ["end …", ["end"]]];
  for (const [text, parts] of texts) {
    const segment = { start: 0, end: 9, speaker: null, text, words: parts.map((word, i) => ({ word, start: i, end: i + 1 })) };
    const [made] = model.fromResult({ segments: [segment], language: "zh" }).segments;
    assert.equal(made.text, textOf(made.words));
    if (text !== "x") assert.equal(made.text, text);
  }
});

test("unchanged words keep their times, new ones share what is between", () => {
  assert.deepEqual(timed(edited("Thank you for your kind invitation.")), [
    ["Thank", 4, 4.8], ["you", 5, 5.8], ["for", 6, 6.8], ["your", 7, 7.4], ["kind", 7.4, 7.8], ["invitation.", 8, 8.8]]);
  assert.deepEqual(timed(edited("Thank you so for the invitation")), [
    ["Thank", 4, 4.8], ["you", 5, 5.8], ["so", 5.8, 6], ["for", 6, 6.8], ["the", 7, 7.8], ["invitation", 8, 8.8]]);
  assert.deepEqual(timed(edited("Thank you! For the invitation."))[1], ["you!", 5, 5.8]);
  assert.deepEqual(timed(edited("Thankyou for")), [["Thankyou", 4, 5.8], ["for", 6, 6.8]]);
  assert.deepEqual(timed(edited("invitation")), [["invitation", 8, 8.8]]);
  assert.equal(edited("Something else").words.every(({ start, end }) => start >= 4 && end <= 8.8 && start <= end), true);
  assert.equal(edited(" "), undefined);
});

test("parts of words share their time, with what is written in between", () => {
  const written = frozen(model.fromResult({ language: "en", segments: [said("e-mail is well-known", 0, "spk_1")] }));
  const cut = (text) => timed(model.editText(written, 1, text).segments[0]);
  assert.deepEqual(cut("e mail is well-known"), [["e", 0, 0.4], ["mail", 0.4, 0.8], ["is", 1, 1.8], ["well-known", 2, 2.8]]);
  assert.deepEqual(cut("e then mail is well-known").slice(0, 4), [["e", 0, 0.267], ["then", 0.267, 0.533], ["mail", 0.533, 0.8], ["is", 1, 1.8]]);
  const [first, second] = model.split(model.editText(written, 1, "e mail is well known"), 1, 1).segments;
  assert.equal(first.end, second.start);
});

test("text without spaces keeps its characters' times", () => {
  const text = "今天天气好。";
  const segment = { start: 0, end: 6, speaker: null, text, words: [...text].map((word, i) => ({ word, start: i, end: i + 1 })) };
  const transcript = model.fromResult({ segments: [segment], language: "zh" });
  assert.deepEqual(timed(model.editText(transcript, 1, "今天的天气很好。").segments[0]), [
    ["今", 0, 1], ["天", 1, 2], ["的", 2, 2], ["天", 2, 3], ["气", 3, 4], ["很", 4, 4], ["好", 4, 5], ["。", 5, 6]]);
});

test("a segment is cut and joined without loss", () => {
  const cut = model.split(original, 2, 2);
  assert.deepEqual(cut.segments.map(({ text }) => text), ["Good morning, everyone.", "Thank you", "for the invitation.", "Shall we begin?"]);
  assert.deepEqual(cut.segments.map(({ start, end }) => [start, end]).slice(1, 3), [[4, 5.8], [6, 8.8]]);
  assert.deepEqual(model.join(cut, 2).segments, original.segments);
});

test("a few words get another speaker", () => {
  const changed = model.assignWords(original, 2, 1, 2, "spk_1");
  assert.deepEqual(changed.segments.map(({ text, speaker }) => [text, speaker]).slice(1, 4), [
    ["Thank", "spk_2"], ["you for", "spk_1"], ["the invitation.", "spk_2"]]);
  assert.equal(new Set(changed.segments.map(({ id }) => id)).size, 5);
});

test("speakers: renamed, merged, added", () => {
  assert.deepEqual(model.rename(original, "spk_2", "  Ann \n Lee ").speakers.spk_2, "Ann Lee");
  assert.equal(model.rename(original, "spk_2", " "), original);
  const one = model.merge(original, "spk_2", "spk_1");
  assert.deepEqual([Object.keys(one.speakers), one.segments.every(({ speaker }) => speaker === "spk_1")], [["spk_1"], true]);
  assert.deepEqual(model.addSpeaker(original).speakers.spk_3, "Speaker 3");
});

test("any changes, then as many steps back: the original; forward again: the result", () => {
  let state = 7;
  const random = (n) => (state = (state * 1103515245 + 12345) % 2147483648) % n;
  const pick = (list) => list[random(list.length)];
  const texts = ["", "Good evening", "<script>alert(1)</script>", "Thank you all for the invitation, really.", "שלום עולם", "👩‍👩‍👧 ok", "x".repeat(2000)];
  const id = (t) => pick(t.segments.length ? t.segments : [{ id: 0 }]).id;
  const anyone = (t) => pick(Object.keys(t.speakers));
  const changes = [
    (t) => model.rename(t, anyone(t), pick(texts)), (t) => model.merge(t, anyone(t), anyone(t)), (t) => model.addSpeaker(t),
    (t) => model.assign(t, id(t), anyone(t)), (t) => model.assignWords(t, id(t), random(3), random(6), anyone(t)),
    (t) => model.split(t, id(t), random(5)), (t) => model.join(t, id(t)), (t) => model.editText(t, id(t), pick(texts)),
  ];
  for (let run = 0; run < 200; run++) {
    let history = begin(original);
    for (let step = 0; step < 40; step++) {
      history = changed(history, frozen(pick(changes)(history.present)), "");
      holds(history.present);
    }
    const last = history.present, steps = history.past.length;
    for (let step = 0; step < steps; step++) history = undone(history);
    assert.equal(undone(history).present, original);
    for (let step = 0; step < steps; step++) history = redone(history);
    assert.equal(redone(history).present, last);
  }
});

function holds(transcript) {
  const ids = transcript.segments.map(({ id }) => id);
  assert.equal(new Set(ids).size, ids.length);
  for (const { id, text, words, speaker, start, end } of transcript.segments) {
    assert.ok(id < transcript.nextId && start <= end && words.length);
    assert.ok(speaker === null || speaker in transcript.speakers);
    assert.equal(text, textOf(words));
    for (const word of words) assert.ok(word.word && word.start <= word.end && Object.keys(word).length === 5);
  }
}

test("the word at a time, and silence", () => {
  const times = timesOf(original.segments);
  assert.deepEqual([-1, 0, 0.9, 1.79, 3.5, 4, 99].map((time) => placeAt(times, time)), [
    null, { segment: 0, word: 0 }, { segment: 0, word: 0 }, { segment: 0, word: 1 }, null, { segment: 1, word: 0 }, null]);
});

test("what is searched is found across words, whatever its case, as text and not as a pattern", () => {
  const found = (text) => occurrences(original.segments, text);
  assert.deepEqual(found("YOU for"), [{ segment: 1, first: 1, last: 2 }]);
  assert.deepEqual(found("n").length, 7);
  assert.deepEqual(found("."), [{ segment: 0, first: 2, last: 2 }, { segment: 1, first: 4, last: 4 }]);
  assert.deepEqual([found("(["), found(" ")], [[], []]);
});

test("an hour of words is edited in a moment, and so is one endless line", () => {
  const body = { language: "en", segments: [said(Array.from({ length: 12000 }, (_, i) => `word${i % 97}`).join(" "), 0, "spk_1")] };
  const long = model.fromResult(body);
  const after = model.editText(long, 1, long.segments[0].text.replace("word50 word51", "something new here").replace(/word\d+$/, "the end"));
  const before = new Map(words(long).map((word) => [word.start, word]));
  const kept = words(after).filter((word) => before.get(word.start)?.word === word.word && before.get(word.start).end === word.end);
  assert.equal(kept.length, 11997);
});
