// Returns the contrast ratio (WCAG 2.2, 1.4.3) of every visible text and placeholder with what lies under it.
() => {
  const pen = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const parse = (color) => {
    pen.clearRect(0, 0, 1, 1);
    pen.fillStyle = color;
    pen.fillRect(0, 0, 1, 1);
    const [red, green, blue, alpha] = pen.getImageData(0, 0, 1, 1).data;
    return [red, green, blue, alpha / 255];
  };
  const over = ([red, green, blue, alpha], under) =>
    [red, green, blue].map((value, i) => value * alpha + under[i] * (1 - alpha));
  const luminance = (color) => {
    const [red, green, blue] = color.map((value) => value / 255).map((value) =>
      value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const found = [];
  const measure = (element, color, text) => {
    if (!element.checkVisibility({ checkVisibilityCSS: true }) || !element.getClientRects().length) return;
    let opacity = 1;
    let under = [255, 255, 255];
    const layers = [];
    for (let at = element; at; at = at.parentElement) {
      opacity *= getComputedStyle(at).opacity;
      layers.unshift(parse(getComputedStyle(at).backgroundColor));
    }
    if (element.disabled || opacity < 0.05) return;
    for (const layer of layers) under = over(layer, under);
    const [red, green, blue, alpha] = parse(color);
    const lights = [over([red, green, blue, alpha * opacity], under), under].map(luminance);
    const ratio = (Math.max(...lights) + 0.05) / (Math.min(...lights) + 0.05);
    found.push({ ratio: Math.round(100 * ratio) / 100, text: text.trim(), element: element.className });
  };
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const element = walk.currentNode.parentElement;
    if (walk.currentNode.data.trim()) measure(element, getComputedStyle(element).color, walk.currentNode.data);
  }
  for (const field of document.querySelectorAll("input, textarea")) {
    const part = field.value ? null : "::placeholder";
    measure(field, getComputedStyle(field, part).color, field.value || field.placeholder || "-");
  }
  return found.sort((a, b) => a.ratio - b.ratio);
}
