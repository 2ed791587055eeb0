// Clips loop while they are seen; in the library, while they are pointed at. Whoever wants less motion gets none.
const calm = matchMedia("(prefers-reduced-motion: reduce)");

const seen = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (!isIntersecting) target.pause();
    else if (!calm.matches) target.play().catch(() => {}); // it was taken away, or the browser saves power
  }
});

function watch(root) {
  root.querySelectorAll('video[data-loop=""]:not([data-watched])').forEach((video) => {
    video.dataset.watched = "";
    seen.observe(video);
  });
}

for (const [kind, play] of [["pointerenter", true], ["pointerleave", false], ["focusin", true], ["focusout", false]]) {
  document.addEventListener(kind, (event) => {
    const video = event.target.closest?.(".card")?.querySelector('video[data-loop="hover"]');
    if (!video) return;
    if (play && !calm.matches) video.play().catch(() => {});
    else video.pause();
  }, true);
}

new MutationObserver(() => watch(document)).observe(document.getElementById("main"), { childList: true, subtree: true });
watch(document);
