// Files with conversations: gives the user what the server has made, and sends a chosen file in pieces that the guard
// lets through. `page.js` calls it once and hands it what both need.
const qwenTransfer = ({ $, submit, fillBox, pause, open, relist }) => {
  const PIECE_BYTES = 120000; // divisible by three, so that pieces of base64 join without a seam
  const MAX_BYTES = 32 * 1024 * 1024;
  const PATIENCE_MS = 180000;

  // One row of the page's hidden boxes is answered by another.
  async function ask(button, values, answer) {
    await submit(button, { ...values, [answer]: "" });
    const box = $(`#box-${answer} textarea`);
    for (let waited = 0; !box.value && waited < PATIENCE_MS; waited += 20) await pause(20);
    return box.value;
  }
  async function busy(task) {
    const { dataset } = document.body;
    if (dataset.transfer === "busy") return;
    dataset.transfer = "busy";
    dataset.stale = "no";
    try {
      await task();
    } finally {
      dataset.transfer = "no";
    }
  }

  async function exportAs(kind) {
    const [name, type, data] = (await ask("#do-export", { export_kind: kind }, "export_made")).split("\n");
    fillBox($("#box-export_made textarea"), "");
    if (!data) return;
    const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([bytes], { type }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  }

  function base64(bytes) {
    let text = "";
    for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode(...bytes.subarray(at, at + 8192));
    return btoa(text);
  }
  async function importFile(file) {
    // The server says in words that a file is too large; more than it needs for that is not read.
    const bytes = new Uint8Array(await file.slice(0, MAX_BYTES + 1).arrayBuffer());
    const total = Math.max(1, Math.ceil(bytes.length / PIECE_BYTES));
    for (let number = 1; number <= total; number++) {
      const piece = base64(bytes.subarray((number - 1) * PIECE_BYTES, number * PIECE_BYTES));
      const place = `${number}/${total}`;
      $("#transfer").style.setProperty("--done", number / total);
      const next = await ask("#do-import", { import_place: place, import_piece: piece }, "import_done");
      if (/^[0-9a-f]{32}$/.test(next)) open(next);
      if (next !== "next") break;
    }
    fillBox($("#box-import_piece textarea"), "");
    relist();
  }
  function chooseFile() {
    const input = Object.assign(document.createElement("input"), { type: "file", accept: ".json,.html,.htm,.zip" });
    input.addEventListener("change", () => input.files[0] && busy(() => importFile(input.files[0])));
    input.click();
  }

  return {
    close() {
      const isOpen = document.body.dataset.transfer === "open";
      if (isOpen) {
        document.body.dataset.transfer = "no";
        $("#to-transfer").focus();
      }
      return isOpen;
    },
    click(button) {
      const { dataset } = document.body;
      if (button === "to-transfer") {
        if (dataset.transfer !== "busy") dataset.transfer = dataset.transfer === "open" ? "no" : "open";
      } else if (button?.startsWith("export-")) busy(() => exportAs(button.slice("export-".length)));
      else if (button === "import-file") chooseFile();
      $("#to-transfer").setAttribute("aria-expanded", String(dataset.transfer === "open"));
    },
  };
};
