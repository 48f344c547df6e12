
// What `static/rendering.js` asks of highlight.js, in a thread of its own: {language, text} -> {colours}, which are for
// each layer of `rendering.css` the offsets at which its pieces begin and end, one after the other; null if the language
// is not known. It says when it is ready for the first. The names are those that models give to code blocks beside the ones highlight.js has.
for (const [languageName, aliases] of Object.entries({
  bash: "fish ksh shellscript",
  cpp: "arduino cu cuda ino",
  csharp: "c-sharp dotnet",
  ini: "conf",
  javascript: "ecmascript es6 javascriptreact node nodejs",
  json: "geojson ipynb jsonl jsonlines ndjson",
  julia: "jl",
  latex: "katex",
  matlab: "octave",
  objectivec: "objective-c",
  python: "ipython jupyter py2 py3 pyi python2 python3 sage",
  scss: "sass stylus",
  shell: "shell-session",
  sql: "hive mysql pgsql plpgsql plsql postgres postgresql psql sqlite sqlite3 tsql",
  typescript: "typescriptreact",
  xml: "markup mathml svelte vue",
})) {
  hljs.registerAliases(aliases.split(" "), { languageName });
}
const LAYERS = new Map();
for (const [layer, scopes] of Object.entries({
  "code-comment": "comment quote meta doctag",
  "code-keyword": "keyword selector-tag name section operator",
  "code-string": "string regexp char template-tag code link",
  "code-number": "number literal symbol bullet",
  "code-name": "title selector-id selector-class",
  "code-type": "type built_in class",
  "code-attribute": "attr attribute property variable template-variable selector-attr selector-pseudo",
  "code-added": "addition",
  "code-removed": "deletion",
})) {
  for (const scope of scopes.split(" ")) LAYERS.set(scope, layer);
}
// Nothing but text, entities and the elements of highlight.js is in its HTML; what lies within an element of a scope
// without a layer, as code within a string does, has none.
function coloursIn(html) {
  const colours = {};
  const open = [];
  let at = 0;
  for (const [piece, scope] of html.matchAll(/<span class="hljs-([\w-]+)[^>]*>|<\/span>|&[#\w]+;|[^<&]+/g)) {
    if (scope) open.push(LAYERS.get(scope));
    else if (piece === "</span>") open.pop();
    else {
      const end = at + (piece[0] === "&" ? 1 : piece.length);
      const layer = open.at(-1);
      if (layer) {
        const edges = (colours[layer] ||= []);
        if (edges.at(-1) === at) edges[edges.length - 1] = end;
        else edges.push(at, end);
      }
      at = end;
    }
  }
  return colours;
}
addEventListener("message", ({ data: { language, text } }) => {
  let colours = null;
  try {
    if (hljs.getLanguage(language)) colours = coloursIn(hljs.highlight(text, { language, ignoreIllegals: true }).value);
  } catch {
    // shown without colours
  }
  postMessage({ colours });
});
postMessage({ isReady: true });
