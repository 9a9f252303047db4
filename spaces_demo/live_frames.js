// Plays frames as they arrive. The server sends {frames, first, done, total, fps}.
// Runs as the body of a function (element, trigger, props, server, upload, watch).
const find = (name) => element.querySelector(name);
let waiting = [];
let timer = null;

function step() {
  if (!element.isConnected) clearInterval(timer);
  if (waiting.length) find("img").src = waiting.shift();
}

function take(sent) {
  if (!sent) return;
  if (sent.first === 0) {
    waiting = [];
    clearInterval(timer);
    timer = setInterval(step, 1000 / Math.min(30, Math.max(4, sent.fps)));
    find("img").style.display = sent.frames.length ? "block" : "none";
  }
  waiting.push(...sent.frames);
  find("progress").max = Math.max(1, sent.total);
  find("progress").value = sent.done;
  find(".count").textContent = `${sent.done} of ${sent.total} frames`;
}

watch("value", () => take(props.value));
take(props.value);
