// The studio's script: each file does one thing for whatever part of the page asks for it by an attribute. (forms.js is
// loaded by itself, before htmx makes its first request.)
import "./live.js";
import "./clips.js";
import "./drop.js";
import "./board.js";
import "./queue.js";
import "./marks.js";
import "./compare.js";
import "./film.js";

document.addEventListener("click", (event) => {
  if (event.target.closest("[data-theme-switch]")) {
    const root = document.documentElement;
    root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark";
    localStorage.setItem("theme", root.dataset.theme);
  }
});
document.querySelector('nav [aria-current="page"]')?.scrollIntoView({ block: "nearest", inline: "center" });
