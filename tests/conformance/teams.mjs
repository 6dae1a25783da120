// Microsoft's own library reads an Adaptive Card from argv[2], as of the schema's version that the card names, and prints
// what it objects to and what it would show.
import { AdaptiveCard, SerializationContext, Version } from "adaptivecards";

const json = JSON.parse(process.argv[2]);
const context = new SerializationContext(Version.parse(json.version, new SerializationContext()));
const card = new AdaptiveCard();
card.parse(json, context);
const objections = Array.from({ length: context.eventCount }, (_, place) => context.getEventAt(place).message);
const invalid = card.validateProperties().validationEvents.map((event) => event.message);
console.log(JSON.stringify({ objections: [...objections, ...invalid], card: card.toJSON(context) }));
