// The pieces of a film, one after the other, each from where the one before left off.
const film = document.querySelector("[data-film]");
if (film) {
  const pieces = [...film.querySelectorAll("video")];
  const told = film.querySelector("[data-shot]");

  const play = (index) => {
    pieces.forEach((piece, at) => {
      piece.hidden = at !== index;
      if (at !== index) piece.pause();
    });
    pieces[index].currentTime = Number(pieces[index].dataset.from);
    told.textContent = `${index + 1} of ${pieces.length}`;
    pieces[index].play().catch(() => {});
  };
  pieces.forEach((piece, index) => piece.addEventListener("ended", () => index + 1 < pieces.length && play(index + 1)));
  film.querySelector("[data-play-film]").addEventListener("click", () => play(0));
}
