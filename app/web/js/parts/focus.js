// Where the focus goes when what has it goes away, so that people who use a keyboard are not sent to the top.

/** From a row of a list that is about to go, to its neighbor; without one, to the view's first button. */
export function focusBeside(node) {
  const row = node.closest("li");
  const beside = row.nextElementSibling ?? row.previousElementSibling;
  (beside?.querySelector("button:enabled, a") ?? document.querySelector("main button"))?.focus();
}

/** Remembers what has the focus. The function that it returns gives it back; if that is gone or hidden, to otherwise(). */
export function focusKept() {
  const before = document.activeElement;
  return (otherwise) => {
    before?.focus({ preventScroll: true });
    if (document.activeElement !== before || before === document.body) otherwise?.()?.focus({ preventScroll: true });
  };
}
