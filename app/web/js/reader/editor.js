// The text of a segment while it is edited. Whatever ends it keeps the text; undo brings back the old one.
import { html, useEffect, useLayoutEffect, useRef } from "../../vendor/htm-preact.js";

export function Editor({ segment, acts }) {
  const field = useRef();
  const open = useRef(true);
  const end = (split) => {
    if (!open.current) return;
    open.current = false;
    const { value, selectionStart } = field.current;
    acts.edited(segment.id, value, split ? value.slice(0, selectionStart) : null);
  };
  useLayoutEffect(() => {
    fit(field.current);
    field.current.focus();
    const { value } = field.current;
    field.current.setSelectionRange(value.length, value.length);
    const node = field.current; // leaving the view keeps the text, too
    return () => { field.current = node; end(false); };
  }, []);
  useEffect(() => {
    const refit = () => fit(field.current);
    addEventListener("resize", refit);
    return () => removeEventListener("resize", refit);
  }, []);
  const onKeyDown = (event) => {
    if (event.isComposing || (event.key !== "Enter" && event.key !== "Escape")) return;
    event.preventDefault();
    event.stopPropagation();
    end(event.key === "Enter" && (event.ctrlKey || event.metaKey));
    acts.focus(segment.id);
  };
  return html`
    <div class="editor">
      <textarea ref=${field} dir="auto" rows="1" spellcheck aria-label="Text of the segment" aria-describedby=${`h${segment.id}`}
        defaultValue=${segment.text} onInput=${() => { fit(field.current); acts.typing(segment.id, field.current.value); }}
        onKeyDown=${onKeyDown} onBlur=${() => end(false)}></textarea>
      <p id=${`h${segment.id}`} class="small pale">Enter keeps it. Ctrl+Enter splits here. An empty text removes the segment.</p>
    </div>`;
}

function fit(field) {
  if (!field) return;
  field.style.height = "auto";
  field.style.height = `${field.scrollHeight + 2}px`;
}
