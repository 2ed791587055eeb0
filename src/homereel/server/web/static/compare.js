// Two clips in step: the left one leads, the right one follows to within half a frame.
const pair = document.querySelector("[data-lockstep]");
if (pair) lockstep(pair);

function lockstep(box) {
  const [left, right] = box.querySelectorAll("video");
  const frame = 1 / Number(box.dataset.fps);
  const slider = document.getElementById("moment");
  const told = document.querySelector("[data-moment]");
  const button = document.querySelector("[data-play]");
  const length = () => Math.min(left.duration || 0, right.duration || 0);
  let playing = false;

  function show() {
    slider.value = length() ? (1000 * left.currentTime) / length() : 0;
    told.textContent = `${left.currentTime.toFixed(2)} s`;
    box.dataset.apart = Math.abs(left.currentTime - right.currentTime).toFixed(4);
  }

  function go(moment) {
    const at = Math.min(Math.max(0, moment), Math.max(0, length() - frame / 2));
    left.currentTime = at;
    right.currentTime = at;
    show();
  }

  function follow() {
    if (!playing) return;
    if (left.ended || right.ended || left.currentTime >= length()) go(0), start();
    else if (Math.abs(left.currentTime - right.currentTime) > frame / 2) right.currentTime = left.currentTime;
    show();
    requestAnimationFrame(follow);
  }

  function start() {
    return Promise.all([left.play(), right.play()]).catch(() => stop());
  }

  function stop() {
    playing = false;
    left.pause();
    right.pause();
    go(left.currentTime);
    button.textContent = "Play";
  }

  button.addEventListener("click", () => {
    if (playing) return stop();
    playing = true;
    button.textContent = "Pause";
    start();
    return requestAnimationFrame(follow);
  });
  slider.addEventListener("input", () => {
    if (playing) stop();
    go((slider.value / 1000) * length());
  });
  document.querySelectorAll("[data-step]").forEach((step) => step.addEventListener("click", () => {
    if (playing) stop();
    go(left.currentTime + Number(step.dataset.step) * frame);
  }));
}
