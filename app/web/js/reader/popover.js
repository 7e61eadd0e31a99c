// A small window beside what it belongs to. A click elsewhere or Escape closes it.
import { html, useEffect, useLayoutEffect, useRef } from "../../vendor/htm-preact.js";
import { focusKept } from "../parts/focus.js";

const MARGIN = 8;

/** `anchor`: the rectangle that it stands below, or above where there is no room. `heir`: gives what gets the focus where
 * the element that had it before is gone. */
export function Popover({ anchor, label, heir, onClose, children }) {
  const own = useRef();
  const heirNow = useRef();
  heirNow.current = heir;
  useLayoutEffect(() => {
    const giveBack = focusKept();
    return () => {
      if (!own.current.contains(document.activeElement)) return;
      queueMicrotask(() => { if (document.activeElement === document.body) giveBack(heirNow.current); }); // once all is drawn
    };
  }, []);
  useLayoutEffect(() => {
    own.current.showPopover();
    place(own.current, anchor);
    own.current.querySelector("[data-first], input, button")?.focus();
  }, [anchor]);
  useEffect(() => {
    const closed = (event) => { if (event.newState === "closed") onClose(); };
    const node = own.current;
    node.addEventListener("toggle", closed);
    return () => node.removeEventListener("toggle", closed);
  }, [onClose]);
  return html`<div ref=${own} class="popover" popover="auto" role="dialog" aria-label=${label}>${children}</div>`;
}

function place(node, { left, top, bottom }) {
  const { offsetWidth: width, offsetHeight: height } = node;
  const below = bottom + 4 + height < innerHeight || top < height;
  node.style.left = `${Math.max(MARGIN, Math.min(left, innerWidth - width - MARGIN))}px`;
  node.style.top = `${Math.max(MARGIN, below ? Math.min(bottom + 4, innerHeight - height - MARGIN) : top - height - 4)}px`;
}
