// The facet of folders: one level of them with counts, the way down and up, and the mark that all of one is fine.

import { useEffect, useState } from "preact/hooks";
import { api } from "./api";
import { keepFolder } from "./decide";
import { Fault, Icon, whole } from "./parts";
import { changes, filter, lake, useLoad, useStore } from "./state";

export function Folders({ query, chosen }: { query: string; chosen: string }) {
  const changed = useStore(changes);
  const [open, setOpen] = useState(false);
  const [text, setText] = useState("");
  useEffect(() => {
    if (chosen) setOpen(true);
  }, [chosen]);
  const { value, error } = useLoad(
    (signal) => (open ? api.folders(query, text.trim(), signal) : Promise.resolve(null)),
    [open, query, text, changed],
    text ? 150 : 0,
  );
  const into = (folder: string) => {
    setText("");
    filter({ folder: folder === value?.root ? [] : [folder] });
  };
  const most = Math.max(1, ...(value?.folders ?? []).map(([, n]) => n));
  const ways = value ? waysTo(value.root, value.folder) : [];
  return (
    <section class="facet">
      <h3>
        <button class="plain fold" aria-expanded={open} onClick={() => setOpen(!open)}>
          Folder{chosen && <span class="dot">1</span>}
          <Icon name="right" />
        </button>
      </h3>
      {open && <Fault error={error} />}
      {open && value && (
        <div class="values">
          <nav class="ways" aria-label="Folders above">
            {ways.map(([name, folder], i) =>
              i + 1 < ways.length ? (
                <button key={folder} class="plain" title={folder} onClick={() => into(folder)}>
                  {name}/
                </button>
              ) : (
                <b key={folder} title={folder}>
                  {name}/
                </b>
              ),
            )}
          </nav>
          {chosen && !lake.value?.read_only && (
            <button class="fine" onClick={() => void keepFolder(value.folder)}>
              <Icon name="check" /> All of this folder is fine
            </button>
          )}
          {(value.more > 0 || text) && (
            <input
              type="search"
              class="find"
              aria-label="Find in folders"
              placeholder="Find…"
              value={text}
              onInput={(event) => setText(event.currentTarget.value)}
            />
          )}
          <div class="scroll" role="group" aria-label="Folders">
            {value.folders.map(([name, n]) => (
              <button key={name} class="plain value" title={name} onClick={() => into(`${value.folder}${name}/`)}>
                <span class="what">{name}/</span>
                <span class="n">{whole(n)}</span>
                <span class="share" style={{ transform: `scaleX(${n / most})` }} />
              </button>
            ))}
          </div>
          <p class="dim aside">
            {value.uncounted
              ? "Very many folders: of these the first are counted."
              : [
                  value.more > 0 && `${whole(value.more)} more folders`,
                  value.here > 0 && value.folders.length > 0 && `${whole(value.here)} in none of them`,
                ]
                  .filter(Boolean)
                  .join(", ")}
          </p>
        </div>
      )}
    </section>
  );
}

/** The folders from the one that holds all pictures down to another, by name. */
function waysTo(root: string, folder: string): [string, string][] {
  const names = folder.startsWith(root) ? folder.slice(root.length).split("/").filter(Boolean) : [];
  const found: [string, string][] = [[root.replace(/\/$/, "").split("/").at(-1) ?? "", root]];
  let path = root;
  for (const name of names) found.push([name, (path += `${name}/`)]);
  return found;
}
