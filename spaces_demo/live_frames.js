// Plays frames as they arrive; the slider seeks. The server sends {frames, first, done, total, fps}.
// Runs as the body of a function (element, trigger, props, server, upload, watch).
const find = (name) => element.querySelector(name);
let frames = [];
let shown = -1;
let playing = true;
let timer = null;

function show(i) {
  shown = i;
  find("img").src = frames[i];
  find(".seek").value = i;
}

function step() {
  if (playing && shown < frames.length - 1) show(shown + 1);
}

function take(sent) {
  if (!sent) return;
  if (sent.first === 0) {
    frames = [];
    shown = -1;
    playing = true;
    clearInterval(timer);
    timer = setInterval(step, 1000 / Math.min(30, Math.max(4, sent.fps)));
  }
  frames = frames.slice(0, sent.first).concat(sent.frames);
  find("img").style.display = frames.length ? "block" : "none";
  find(".empty").style.display = frames.length ? "none" : "block";
  find(".seek").max = Math.max(0, frames.length - 1);
  find("progress").max = Math.max(1, sent.total);
  find("progress").value = sent.done;
  find(".count").textContent = `${sent.done} of ${sent.total} frames`;
  if (shown < 0 && frames.length) show(0);
}

find(".seek").addEventListener("input", (event) => {
  playing = false;
  show(Number(event.target.value));
});
find("img").addEventListener("click", () => { playing = !playing; });
watch("value", () => take(props.value));
