// Follows what happens to jobs. Progress is drawn in place; whatever else happens lets the parts of the page that show
// it ask for themselves again. A page in the background lets go of its stream, and looks again when it is back.

const KINDS = ["submitted", "started", "wanted", "requeued", "paused", "resumed", "moved", "completed", "failed", "cancelled", "retried", "deleted"];
const AGAIN_MS = 2000;
const body = document.body;
let source = null;
let after = body.dataset.after;
let isLost = false;
let waiting = null;

function open() {
  close();
  // Previews come within their events: one that was asked for by its address may be gone by then.
  source = new EventSource(`/api/v1/events?previews=data&after=${after}`);
  source.onopen = () => {
    banner(false);
    if (isLost) refresh();
    isLost = false;
  };
  source.onerror = () => {
    isLost = true;
    banner(true);
    if (source?.readyState === EventSource.CLOSED) waiting = setTimeout(open, AGAIN_MS);
  };
  source.addEventListener("progress", (event) => progress(read(event)));
  for (const kind of KINDS) source.addEventListener(kind, (event) => changed(read(event)));
}

function close() {
  clearTimeout(waiting);
  source?.close();
  source = null;
}

function read(event) {
  after = event.lastEventId;
  return JSON.parse(event.data);
}

function banner(shown) {
  document.querySelector("[data-offline]").hidden = !shown;
}

function progress(told) {
  for (const element of document.querySelectorAll(`[data-job="${told.job}"]`)) {
    const bar = element.querySelector("progress");
    if (!bar && element.dataset.status === "queued") card(element);
    if (bar) bar.value = told.progress;
    const text = element.querySelector("[data-told]");
    if (text) text.textContent = words(told);
    const picture = element.querySelector("img[data-preview]");
    if (picture && told.preview) {
      picture.src = told.preview;
      picture.hidden = false;
    }
  }
}

function words({ stage, progress, remaining_seconds: left }) {
  const parts = [`${stage ?? "in work"}, ${progress} %`];
  if (left != null) parts.push(left < 60 ? `${Math.max(1, Math.round(left))} s left` : `${Math.round(left / 60)} min left`);
  return parts.join(", ");
}

function changed(told) {
  for (const element of document.querySelectorAll(`[data-job="${told.job}"]`)) {
    if (element.dataset.card) card(element);
    if (element.dataset.pageStatus && told.status !== element.dataset.pageStatus) location.reload();
  }
  soon();
}

function card(element) {
  htmx.ajax("GET", element.dataset.card, { target: `#${element.id}`, swap: "outerMorph", source: element });
}

let later = null;
function soon() {
  clearTimeout(later);
  later = setTimeout(() => {
    htmx.trigger(body, "jobs-changed");
    if (document.querySelector('[data-page-status="film"]') && !document.querySelector("main progress")) {
      fetch(location.href).then((answer) => answer.text()).then((text) => text.includes("data-film") && location.reload());
    }
  }, 200);
}

function refresh() {
  document.querySelectorAll("[data-card]").forEach(card);
  soon();
}

if (after !== undefined) {
  if (!document.hidden) open();
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  addEventListener("pagehide", close);
  addEventListener("pageshow", (event) => event.persisted && (open(), refresh()));
}

setInterval(() => {
  if (document.querySelector("[data-pull-tick]") && !document.hidden) htmx.trigger(body, "pull-tick");
}, 1000);
