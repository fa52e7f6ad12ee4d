/** One's own picture lies in a corner of the stage: drag it to another one, or move it with the keyboard. */

const CLOCKWISE = ["top-left", "top-right", "bottom-right", "bottom-left"];
const ARROWS = {
  ArrowLeft: (corner) => corner.replace("right", "left"),
  ArrowRight: (corner) => corner.replace("left", "right"),
  ArrowUp: (corner) => corner.replace("bottom", "top"),
  ArrowDown: (corner) => corner.replace("top", "bottom"),
};

export class SelfView {
  #box;
  #moved;
  #drag = { pointer: -1, x: 0, y: 0 };

  /**
   * @param {HTMLElement} box     lies within its offsetParent, in the corner that its data-corner names
   * @param {HTMLElement} button  moves it on
   * @param {{corner: string, movable: () => boolean, moved: (corner: string) => void}} settings
   */
  constructor(box, button, { corner, movable, moved }) {
    this.#box = box;
    this.#moved = moved;
    if (CLOCKWISE.includes(corner)) box.dataset.corner = corner;
    button.addEventListener("click", () => this.#moveOn());
    button.addEventListener("keydown", (event) => this.#keyDown(event));
    box.addEventListener("pointerdown", (event) => {
      if (movable() && event.button === 0 && !button.contains(event.target)) this.#take(event);
    });
    box.addEventListener("pointermove", (event) => this.#pull(event));
    box.addEventListener("pointerup", (event) => this.#drop(event));
    box.addEventListener("pointercancel", (event) => this.#drop(event));
  }

  #moveOn() {
    const place = CLOCKWISE.indexOf(this.#box.dataset.corner);
    this.#settle(CLOCKWISE[(place + 1) % CLOCKWISE.length]);
  }

  #keyDown(event) {
    const move = ARROWS[event.key];
    if (!move) return;
    event.preventDefault();
    this.#settle(move(this.#box.dataset.corner));
  }

  #settle(corner) {
    if (corner === this.#box.dataset.corner) return;
    this.#box.dataset.corner = corner;
    this.#moved(corner);
  }

  #take(event) {
    event.preventDefault();
    this.#box.setPointerCapture(event.pointerId);
    this.#box.dataset.dragged = "true";
    this.#drag = { pointer: event.pointerId, x: event.clientX, y: event.clientY };
  }

  #pull(event) {
    if (event.pointerId !== this.#drag.pointer) return;
    const { x, y } = this.#drag;
    this.#box.style.transform = `translate(${event.clientX - x}px, ${event.clientY - y}px)`;
  }

  #drop(event) {
    if (event.pointerId !== this.#drag.pointer) return;
    const corner = this.#nearestCorner();
    this.#drag.pointer = -1;
    this.#box.style.transform = "";
    delete this.#box.dataset.dragged;
    this.#settle(corner);
  }

  #nearestCorner() {
    const box = this.#box.getBoundingClientRect();
    const stage = this.#box.offsetParent.getBoundingClientRect();
    const left = box.left + box.width / 2 < stage.left + stage.width / 2;
    const top = box.top + box.height / 2 < stage.top + stage.height / 2;
    return `${top ? "top" : "bottom"}-${left ? "left" : "right"}`;
  }
}
