// Draws boxes on an image. The server sends {image, width, height, boxes} and receives only the boxes, in pixels of the
// original: [[x1, y1, x2, y2], ...]. Runs as the body of a function (element, trigger, props, server, upload, watch).
const SMALLEST_PX = 4; // on the screen: a click is not a box
const SAME_IOU = 0.9; // boxes that overlap more are of one object
const find = (name) => element.querySelector(name);
const canvas = find("canvas");
const pen = canvas.getContext("2d");
let image = null;
let width = 0;
let height = 0;
let boxes = [];
let drag = null; // {x, y, toX, toY} in pixels of the original

const color = (i) => props.colors[i % props.colors.length];
const note = (text) => { find(".note").textContent = text; };
const area = ([x1, y1, x2, y2]) => Math.max(0, x2 - x1) * Math.max(0, y2 - y1);

function drawBox([x1, y1, x2, y2], i, scale) {
  pen.lineWidth = Math.max(2, 3 * scale);
  pen.strokeStyle = "#000a";
  pen.strokeRect(x1, y1, x2 - x1, y2 - y1);
  pen.lineWidth = Math.max(1, 2 * scale);
  pen.strokeStyle = color(i);
  pen.strokeRect(x1, y1, x2 - x1, y2 - y1);
  pen.fillStyle = color(i);
  const side = 20 * scale;
  // Above the box, else below it, else to its left, so that the number hides no small object.
  const above = y1 >= side;
  const below = !above && y2 + side <= height;
  const left = above || below ? x1 : Math.max(0, x1 - side);
  const top = above ? y1 - side : below ? y2 : y1;
  pen.fillRect(left, top, side, side);
  pen.fillStyle = "#111";
  pen.font = `bold ${14 * scale}px system-ui, sans-serif`;
  pen.fillText(String(i + 1), left + 6 * scale, top + 15 * scale);
}

function draw() {
  if (!image) return;
  pen.drawImage(image, 0, 0, width, height);
  const scale = width / Math.max(1, canvas.clientWidth);
  boxes.forEach((box, i) => drawBox(box, i, scale));
  if (drag) drawBox(ordered(drag), boxes.length, scale);
}

function list() {
  const rows = boxes.map((box, i) => {
    const row = document.createElement("li");
    const dot = document.createElement("span");
    dot.className = "dot";
    dot.style.background = color(i);
    const remove = document.createElement("button");
    remove.type = "button";
    remove.textContent = "\u2715";
    remove.setAttribute("aria-label", `Remove box ${i + 1}`);
    remove.addEventListener("click", () => set(boxes.filter((_, j) => j !== i)));
    row.append(dot, `${i + 1}: ${box.join(", ")}`, remove);
    return row;
  });
  find(".boxes").replaceChildren(...rows);
}

function set(next) {
  boxes = next;
  props.value = next;
  note(boxes.length ? "" : "Drag on the frame to draw a box around an object.");
  list();
  draw();
}

function iou(a, b) {
  const overlap = area([Math.max(a[0], b[0]), Math.max(a[1], b[1]), Math.min(a[2], b[2]), Math.min(a[3], b[3])]);
  return overlap / (area(a) + area(b) - overlap);
}

function add(box) {
  const same = boxes.findIndex((other) => iou(box, other) > SAME_IOU);
  if (same >= 0) {
    set(boxes.map((other, i) => (i === same ? box : other)));
    note(`The new box replaces box ${same + 1}, which covered nearly the same area.`);
  } else if (boxes.length >= props.most) note(`At most ${props.most} objects; remove a box first.`);
  else set([...boxes, box]);
}

function ordered({ x, y, toX, toY }) {
  return [Math.min(x, toX), Math.min(y, toY), Math.max(x, toX), Math.max(y, toY)];
}

function at(event) {
  const frame = canvas.getBoundingClientRect();
  const clamp = (value, most) => Math.min(most, Math.max(0, Math.round(value)));
  return [
    clamp(((event.clientX - frame.left) / frame.width) * width, width),
    clamp(((event.clientY - frame.top) / frame.height) * height, height),
  ];
}

canvas.addEventListener("pointerdown", (event) => {
  if (!event.isPrimary || event.button !== 0) return;
  const [x, y] = at(event);
  drag = { x, y, toX: x, toY: y };
  canvas.setPointerCapture(event.pointerId);
  event.preventDefault();
});
canvas.addEventListener("pointermove", (event) => {
  if (!drag || !event.isPrimary) return;
  [drag.toX, drag.toY] = at(event);
  draw();
});
canvas.addEventListener("pointerup", () => {
  if (!drag) return;
  const box = ordered(drag);
  drag = null;
  const least = (SMALLEST_PX * width) / Math.max(1, canvas.clientWidth);
  if (box[2] - box[0] >= least && box[3] - box[1] >= least) add(box);
  else draw();
});
canvas.addEventListener("pointercancel", () => { drag = null; draw(); });

function addTyped() {
  const numbers = find(".typed").value.split(/[\s,;]+/).filter(Boolean).map(Number);
  const [x1, y1, x2, y2] = numbers;
  const inside = x1 >= 0 && y1 >= 0 && x1 < x2 && y1 < y2 && x2 <= width && y2 <= height;
  if (numbers.length !== 4 || !inside) {
    note(`A box is x1,y1,x2,y2 inside 0,0,${width},${height}, with x1 < x2 and y1 < y2.`);
    return;
  }
  find(".typed").value = "";
  add(numbers);
}
find(".add").addEventListener("click", addTyped);
find(".typed").addEventListener("keydown", (event) => {
  if (event.key === "Enter") addTyped();
});

function take(sent) {
  if (Array.isArray(sent)) return;
  image = null;
  if (!sent) { set([]); return; }
  const loading = new Image();
  loading.onload = () => {
    image = loading;
    [width, height] = [sent.width, sent.height];
    [canvas.width, canvas.height] = [width, height];
    set(sent.boxes);
  };
  loading.src = sent.image;
}
watch("value", () => take(props.value));
new ResizeObserver(draw).observe(canvas);
take(props.value);
