// Generates TypeScript from the AsyncAPI document by Modelina: node models.cjs DOCUMENT TARGET. Fails if a model has
// no name of its own, replaces another of the same name, or lost the type of a field.
const { writeFileSync } = require("node:fs");
const { pathToFileURL } = require("node:url");
const { Logger, TypeScriptGenerator } = require("@asyncapi/modelina");

const [document, target] = process.argv.slice(2);
const faults = [];
const note = (message) => {
    if (/overwriting/i.test(message)) faults.push(message);
};
Logger.setLogger({ debug() {}, info() {}, warn: note, error: note });

function check(models) {
    const byName = new Map();
    for (const { modelName, result } of models) {
        if (/anonymous/i.test(modelName + result)) faults.push(`${modelName} has no name of its own, or one of its fields`);
        if ((byName.get(modelName) ?? result) !== result) faults.push(`there are two different models ${modelName}`);
        byName.set(modelName, result);
        for (const line of result.split("\n")) {
            if (/:.*\bany\b/.test(line) && !line.includes("additionalProperties")) faults.push(`${modelName}:${line}`);
        }
    }
    for (const name of ["ClientMessage", "ServerMessage"]) {
        if (!byName.has(name)) faults.push(`there is no ${name}, the union of a direction`);
    }
}

async function main() {
    const generator = new TypeScriptGenerator({ modelType: "interface", enumType: "union", rawPropertyNames: true });
    const models = await generator.generate(pathToFileURL(document).href);
    check(models);
    writeFileSync(target, models.map(({ result }) => `export ${result}\n`).join("\n"));
    console.log(`${models.length} models`);
    for (const fault of faults) console.error(fault);
    process.exitCode = faults.length ? 1 : 0;
}

main();
