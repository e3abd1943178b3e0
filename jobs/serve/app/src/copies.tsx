// The page of copies: each group with the one to keep first, and what differs in words.

import { useEffect, useRef, useState } from "preact/hooks";
import type { Cluster, Row } from "./api";
import { api } from "./api";
import { accept, count, decide, say } from "./decide";
import { common, useKeys } from "./dialogs";
import { DecisionBadge, Empty, Fault, Icon, IssueBadges, Thumb, baseName, differences, spoken, whole } from "./parts";
import { changes, filter, go, lake, place, queryOf, useLoad, useStore, words } from "./state";

const PAGE = 20; // groups on one page

export function Copies({ onHelp }: { onHelp: () => void }) {
  const here = useStore(place);
  const changed = useStore(changes);
  const query = queryOf(here.filters);
  const at = Math.floor(here.at / PAGE) * PAGE;
  const { value, error } = useLoad((signal) => api.clusters(query, at, PAGE, signal), [query, at, changed]);
  const [focused, setFocused] = useState<[number, number]>([0, 0]); // group, member
  const list = useRef<HTMLDivElement>(null);
  const clusters = value?.clusters ?? [];
  const decides = !lake.value?.read_only;
  useEffect(() => {
    setFocused([0, 0]);
    scrollTo(0, 0);
  }, [query, at]);

  const move = (group: number, member: number) => {
    const g = Math.max(0, Math.min(clusters.length - 1, group));
    const m = Math.max(0, Math.min((clusters[g]?.members.length ?? 1) - 1, member));
    setFocused([g, m]);
    list.current?.querySelector<HTMLElement>(`[data-at="${g}-${m}"]`)?.focus();
  };
  useKeys(0, (key) => {
    const [g, m] = focused;
    const group = clusters[g];
    const member = group?.members[m];
    if (key === "ArrowDown") move(g + 1, 0);
    else if (key === "ArrowUp") move(g - 1, 0);
    else if (key === "ArrowRight") move(g, m + 1);
    else if (key === "ArrowLeft") move(g, m - 1);
    else if (key === "k" && group && member) void keepOne(group, member);
    else if (key === "a" && group) void keepAll(group);
    else if (key === "y" && group) void suggested(group);
    else return common(key, onHelp);
    return true;
  });

  const total = value?.total ?? 0;
  const pager = total > PAGE && (
    <nav class="pager" aria-label="Pages of groups">
      <button disabled={at === 0} onClick={() => go({ at: at - PAGE })}>
        <Icon name="left" /> Previous
      </button>
      <span>
        {whole(at + 1)} to {whole(Math.min(total, at + PAGE))} of {whole(total)}
      </span>
      <button disabled={at + PAGE >= total} onClick={() => go({ at: at + PAGE })}>
        Next <Icon name="right" />
      </button>
    </nav>
  );
  return (
    <main class="page" id="main">
      <header class="page-head">
        <h1>Copies</h1>
        <p class="dim" role="status">
          {value ? `${count(total, "group")} of pictures that are the same or nearly so` : "Looking…"}
          {query && (
            <>
              {" "}
              under the filters of the gallery.{" "}
              <button class="plain" onClick={() => go({ filters: {}, at: 0 })}>
                Clear them
              </button>
            </>
          )}
        </p>
      </header>
      <Fault error={error} />
      {value && !total && (
        <Empty>
          <p>No copies here.</p>
        </Empty>
      )}
      <div ref={list}>
        {clusters.map((cluster, g) => {
          const keeper = cluster.members[0];
          return (
            <article key={cluster.cluster} class="cluster" aria-label={`Group ${cluster.cluster}`}>
              <header>
                <h2>
                  {whole(cluster.size)}{" "}
                  {cluster.kind === "exact" ? "exact" : cluster.kind === "near" ? "near" : cluster.kind} copies
                </h2>
                <button
                  class="plain"
                  onClick={() => filter({ cluster: [String(cluster.cluster)] }, { page: "gallery" })}
                >
                  In the gallery
                </button>
                <span class="space" />
                {decides && (
                  <>
                    <button onClick={() => void suggested(cluster)}>As suggested</button>
                    <button onClick={() => void keepAll(cluster)}>Keep all</button>
                  </>
                )}
              </header>
              <ul class="members">
                {cluster.members.map((member, m) => (
                  <li
                    key={member.id}
                    class={`member${member.is_keeper ? " keeper" : ""}${member.decision ? ` is-${member.decision}` : ""}`}
                  >
                    <button
                      class="picture"
                      data-at={`${g}-${m}`}
                      onFocus={() => setFocused([g, m])}
                      title={member.uri}
                      onClick={() =>
                        keeper &&
                        go(member.id === keeper.id ? { open: member.id } : { open: keeper.id, beside: member.id })
                      }
                    >
                      <Thumb row={member} />
                      <span class="corner">
                        <DecisionBadge row={member} />
                      </span>
                      <span class="marks">
                        <IssueBadges issues={member.issues} />
                      </span>
                      <span class="sr">
                        {member.is_keeper ? "Open" : "Side by side with the kept one"}: {member.name}. {spoken(member)}
                      </span>
                    </button>
                    <div class="name">{baseName(member.name)}</div>
                    <p class="says">
                      {member.is_keeper || !keeper ? (
                        <>
                          <b class="star">
                            <Icon name="star" /> Keeper
                          </b>{" "}
                          {member.width && member.height ? `${member.width} × ${member.height} · ` : ""}
                          {member.label ?? "no label"}
                          {member.split && ` · ${member.split}`}
                        </>
                      ) : (
                        differences(member, keeper).join(" · ") || "no difference is known"
                      )}
                    </p>
                    {decides && (
                      <button class="keep-this" onClick={() => void keepOne(cluster, member)}>
                        Keep {member.is_keeper ? "this" : "this instead"}
                      </button>
                    )}
                  </li>
                ))}
                {cluster.size > cluster.members.length && (
                  <li class="member rest">
                    <button
                      class="plain"
                      onClick={() => filter({ cluster: [String(cluster.cluster)] }, { page: "gallery" })}
                    >
                      {whole(cluster.size - cluster.members.length)} more…
                    </button>
                  </li>
                )}
              </ul>
            </article>
          );
        })}
      </div>
      {pager}
    </main>
  );
}

/** The numbers of all members, of which the page may show only the first. */
async function membersOf(cluster: Cluster): Promise<number[]> {
  if (cluster.size <= cluster.members.length) return cluster.members.map((member) => member.id);
  const ids: number[] = [];
  for (let offset = 0; offset < cluster.size; offset += 500) {
    const { rows } = await api.rows(`cluster=${cluster.cluster}`, offset, 500);
    ids.push(...rows.map((row) => row.id));
    if (!rows.length) break;
  }
  return ids;
}

async function keepOne(cluster: Cluster, member: Row): Promise<void> {
  if (lake.value?.read_only) return;
  try {
    const others = (await membersOf(cluster)).filter((id) => id !== member.id);
    await decide([
      { ids: [member.id], decision: "keep" },
      ...(others.length ? [{ ids: others, decision: "remove" as const }] : []),
    ]);
  } catch (error) {
    say(words(error), { bad: true });
  }
}

const suggested = (cluster: Cluster) => accept({ view: `cluster=${cluster.cluster}` });

async function keepAll(cluster: Cluster): Promise<void> {
  if (lake.value?.read_only) return;
  try {
    await decide([{ ids: await membersOf(cluster), decision: "keep" }]);
  } catch (error) {
    say(words(error), { bad: true });
  }
}
