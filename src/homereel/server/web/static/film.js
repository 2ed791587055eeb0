// The pieces of a film, one after the other, each from where the one before left off.
const film = document.querySelector("[data-film]");
if (film) {
  const pieces = [...film.querySelectorAll("video")];
  const told = film.querySelector("[data-shot]");
  const button = film.querySelector("[data-play-film]");
  let at = 0;

  const begin = (index) => {
    at = index;
    pieces.forEach((piece, place) => {
      piece.hidden = place !== index;
      if (place !== index) piece.pause();
    });
    if (pieces[index + 1]) pieces[index + 1].preload = "auto";
    pieces[index].currentTime = Number(pieces[index].dataset.from);
    told.textContent = `${index + 1} of ${pieces.length}`;
    pieces[index].play().catch(() => {});
  };
  const toggle = () => {
    if (!pieces[at].paused) pieces[at].pause();
    else if (pieces[at].ended || pieces[at].currentTime === 0) begin(pieces[at].ended ? 0 : at);
    else pieces[at].play().catch(() => {});
  };
  pieces.forEach((piece, index) => {
    piece.addEventListener("ended", () => {
      if (index + 1 < pieces.length) begin(index + 1);
      else button.textContent = "Play again";
    });
    piece.addEventListener("play", () => (button.textContent = "Pause"));
    piece.addEventListener("pause", () => !piece.hidden && !piece.ended && (button.textContent = "Go on"));
    piece.addEventListener("click", toggle);
  });
  button.addEventListener("click", toggle);
}
