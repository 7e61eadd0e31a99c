// Words as a line of text.
const WITHOUT_SPACES = /[\p{sc=Han}\p{sc=Hiragana}\p{sc=Katakana}\p{sc=Thai}\p{sc=Lao}\p{sc=Khmer}\p{sc=Myanmar}]/u;

/** ["Hello", "you"] -> "Hello you"; Chinese, Japanese and Thai are written without spaces. */
export function joined(words) {
  return words.reduce((text, word) => {
    const glued = !text || (WITHOUT_SPACES.test(text.at(-1)) && WITHOUT_SPACES.test(word[0] ?? ""));
    return text + (glued ? "" : " ") + word;
  }, "");
}
