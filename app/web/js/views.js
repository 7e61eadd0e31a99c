// Every view of the page: its name in the address, its title, and whether the header lists it.
import { FilesView } from "./files/view.js";
import { LiveView } from "./live/view.js";
import { QueueView } from "./queue/view.js";
import { ReaderView } from "./reader/view.js";
import { RecordView } from "./record/view.js";

export const VIEWS = {
  files: { title: "Files", View: FilesView, listed: true },
  record: { title: "Record", View: RecordView, listed: true },
  live: { title: "Live", View: LiveView, listed: true },
  queue: { title: "Queue", View: QueueView, listed: true },
  job: { title: "Transcript", View: ReaderView, listed: false },
};
