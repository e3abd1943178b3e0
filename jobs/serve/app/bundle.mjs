// Builds src/ into ../static: app.js, app.css, index.html and the licence of Preact, which app.js contains.
import { copyFileSync, readFileSync, statSync } from "node:fs";
import { build } from "esbuild";

const out = "../static";
const { version } = JSON.parse(readFileSync("node_modules/preact/package.json", "utf8"));

await build({
  entryPoints: { app: "src/main.tsx" },
  outdir: out,
  bundle: true,
  minify: true,
  format: "esm",
  target: ["chrome100", "firefox100", "safari15.4"],
  jsx: "automatic",
  jsxImportSource: "preact",
  define: { "process.env.NODE_ENV": '"production"' },
  banner: { js: `/* Contains Preact ${version}, (c) 2015-present Jason Miller, MIT: see preact-LICENSE.txt */` },
  logLevel: "warning",
});
copyFileSync("index.html", `${out}/index.html`);
copyFileSync("node_modules/preact/LICENSE", `${out}/preact-LICENSE.txt`);
for (const name of ["index.html", "app.js", "app.css"]) console.log(name, statSync(`${out}/${name}`).size);
