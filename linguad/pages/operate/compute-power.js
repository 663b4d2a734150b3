/** What the nodes could do besides: spare CPU, GPU and memory, and how fast each is. */

import { el, section } from "./dom.js";
import { Bars } from "./charts.js";
import { Cards } from "./cards.js";
import { bytes, number } from "./format.js";
import { nodeColumn } from "./lists.js";
import { asking } from "./part.js";
import { Table } from "./table.js";

const GB = 2 ** 30;
/** Nodes in the picture; the table has all. */
const LARGEST = 12;

/** Fills the page. */
export function open(page) {
  const cards = new Cards("nodes", "spareCpu", "spareGpu", "spareMemory");
  const picture = new Bars();
  const table = new Table("compute-power", [
    nodeColumn,
    { name: "spareCpu", number: true, value: (row) => row.cpu_power, text: (row) => number(row.cpu_power, 1) },
    { name: "spareGpu", number: true, value: (row) => row.gpu_power, text: (row) => bytes(row.gpu_power * GB) },
    { name: "spareMemory", number: true, value: (row) => row.memory_power, text: (row) => bytes(row.memory_power * GB) },
    { name: "hearing", number: true, value: (row) => row.asr_efficiency, text: (row) => factor(row.asr_efficiency) },
    { name: "translating", number: true, value: (row) => row.nmt_efficiency, text: (row) => number(row.nmt_efficiency, 1) },
    { name: "speaking", number: true, value: (row) => row.tts_efficiency, text: (row) => factor(row.tts_efficiency) },
    {
      name: "services", value: (row) => Object.entries(row.service_efficiencies ?? {}).map(([name, value]) => `${name} ${number(value, 2)}`).join(", "),
    },
  ], { key: (row) => row.node_id, sort: "spareGpu", down: true, empty: "noNodes" });

  const all = section("power", "spare", el("p", { class: "small quiet", "data-t": "spareWhat" }), cards.element);
  const most = section("largest", "mostGpu", picture.element);
  page.append(el("h1", { "data-t": "compute-power" }), all, most, section("each", "nodes", table.element));

  asking(all, "/api/v1/stats", 5, ({ nodes: { compute_power: power } }) => {
    const details = power.node_power_details;
    cards.set({
      nodes: number(details.length), spareCpu: number(power.total_cpu_power, 1),
      spareGpu: bytes(power.total_gpu_power * GB), spareMemory: bytes(power.total_memory_power * GB),
    });
    const largest = details.filter((one) => one.gpu_power > 0).sort((a, b) => b.gpu_power - a.gpu_power).slice(0, LARGEST);
    picture.set(largest.map((one) => ({ name: one.node_id, value: one.gpu_power, text: bytes(one.gpu_power * GB) })));
    most.hidden = !largest.length;
    table.set(details);
  });
}

function factor(value) { return value === undefined ? "–" : `${number(value, 2)}×`; }
