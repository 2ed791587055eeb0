// Forms go out as JSON, which no page of another site can send, and failures are told beside the form that failed.

document.addEventListener("htmx:before:request", (event) => {
  const request = event.detail.ctx.request;
  if (!(request.body instanceof URLSearchParams) && !(request.body instanceof FormData)) return;
  const told = {};
  for (const [name, value] of request.body) {
    told[name] = name in told ? [].concat(told[name], value) : value;
  }
  request.body = JSON.stringify(told);
  request.headers["Content-Type"] = "application/json";
});

document.addEventListener("htmx:response:error", (event) => {
  const ctx = event.detail.ctx;
  let error = { message: `the server answered ${ctx.response.status}` };
  try {
    error = JSON.parse(ctx.text).error;
  } catch {
    // it was no answer of ours
  }
  tell(ctx.sourceElement, error);
});

document.addEventListener("htmx:error", (event) => {
  const { ctx, error } = event.detail;
  if (ctx?.response || error?.name === "AbortError") return;
  if (!ctx?.sourceElement?.closest("form, button")) return; // the banner speaks for what the page asks by itself
  tell(ctx.sourceElement, {
    message: "The server does not answer. What you typed is still here: start homereel serve again, and click once more.",
  });
});

document.addEventListener("htmx:after:request", (event) => {
  const ctx = event.detail.ctx;
  if (ctx.response?.status >= 400 || ctx.request.method === "GET") return;
  place(ctx.sourceElement)?.setAttribute("hidden", "");
  const form = ctx.sourceElement.closest("[data-scroll-to]");
  if (form && ctx.sourceElement === form) {
    const reduced = matchMedia("(prefers-reduced-motion: reduce)").matches;
    setTimeout(() => document.querySelector(form.dataset.scrollTo)?.scrollIntoView({ behavior: reduced ? "auto" : "smooth", block: "nearest" }), 100);
  }
});

function place(element) {
  for (let at = element; at && at !== document.body; at = at.parentElement) {
    const found = at.querySelector(":scope > [data-error], :scope > * > [data-error]");
    if (found && !found.closest(".drop")) return found;
  }
  return null;
}

function tell(element, { message, param }) {
  const text = message.charAt(0).toUpperCase() + message.slice(1);
  const there = element?.closest("form, .line, .drop") ? place(element) : null;
  if (there) {
    there.textContent = text;
    there.hidden = false;
    document.querySelectorAll("[aria-invalid]").forEach((each) => each.removeAttribute("aria-invalid"));
    const field = param && element.closest("form")?.elements[param];
    if (field?.focus) {
      field.setAttribute("aria-invalid", "true");
      field.closest("details")?.setAttribute("open", "");
      field.focus();
    }
    return;
  }
  const toast = document.getElementById("toast");
  toast.querySelector("p").textContent = text;
  toast.hidden = false;
}

document.addEventListener("click", (event) => {
  if (event.target.closest("[data-close-toast]")) document.getElementById("toast").hidden = true;
  const fill = event.target.closest("[data-fill]");
  if (fill) {
    const field = document.querySelector(fill.dataset.fill);
    field.value = fill.dataset.text;
    field.dispatchEvent(new CustomEvent("filled", { bubbles: true }));
    field.focus();
  }
  if (event.target.closest("[data-add-shot]")) addShot();
});

document.addEventListener("keydown", (event) => {
  const form = event.target.closest?.("#create");
  if (form && event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    form.querySelector('[name="generate"]').click();
  }
});

function addShot() {
  const list = document.querySelector("[data-shots]");
  const number = list.children.length + 1;
  const row = list.lastElementChild.cloneNode(true);
  row.querySelectorAll("input, select").forEach((field) => {
    const id = field.id.replace(/\d+$/, String(number));
    row.querySelector(`label[for="${field.id}"]`).htmlFor = id;
    field.id = id;
    if (field.tagName === "INPUT") field.value = "";
  });
  row.querySelector("label").textContent = `Shot ${number}`;
  list.append(row);
  row.querySelector("input").focus();
}
