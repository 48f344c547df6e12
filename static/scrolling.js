// The newest line stays in sight until the user scrolls away from it. Gradio's own autoscroll pulls a reader back to the
// end for 300 ms after every update, which is always while an answer streams. `page.js` calls it once.
const qwenScrolling = ({ $ }) => {
  const END_PX = 60;
  const EARLIER_MS = 1500; // how long messages that come in above may take
  let sticks = true;
  let fromEnd = null;
  let lastTop = 0; // where the page itself or the user has scrolled to
  const scroller = () => $("#chatbot .bubble-wrap");
  const distance = (box) => box.scrollHeight - box.scrollTop - box.clientHeight;

  function stick(value) {
    sticks = value;
    document.body.dataset.away = value ? "no" : "yes";
  }
  function keepPlace() {
    const box = scroller();
    if (!box || (fromEnd === null && !sticks)) return;
    box.scrollTop = box.scrollHeight - (fromEnd ?? 0);
    lastTop = box.scrollTop;
  }
  function toEnd() {
    stick(true);
    keepPlace();
  }
  // Earlier messages come in above what is read, which stays where it is.
  function expectEarlier() {
    fromEnd = scroller().scrollHeight - scroller().scrollTop;
    setTimeout(() => (fromEnd = null), EARLIER_MS);
  }
  // Gradio makes the box anew now and then.
  function look() {
    const box = scroller();
    if (box && !box.dataset.watched) {
      box.dataset.watched = "yes";
      watch(box);
    }
    keepPlace();
  }
  function watch(box) {
    // Upwards leaves the end with the first pixel, or the next update would undo a smooth scroll; only downwards
    // finds it again. Content that shrinks moves up as well, but stays at the end.
    const moved = () => {
      if (box.scrollTop < lastTop && distance(box) > 2) stick(false);
      else if (box.scrollTop > lastTop && distance(box) < END_PX) stick(true);
      lastTop = box.scrollTop;
    };
    box.addEventListener("scroll", moved, { passive: true });
    const awayByWheel = (event) => event.deltaY < 0 && box.scrollTop > 0 && stick(false);
    box.addEventListener("wheel", awayByWheel, { passive: true });
    new ResizeObserver(keepPlace).observe($("#chatbot .message-wrap") || box);
  }
  return { stick, toEnd, expectEarlier, look };
};
