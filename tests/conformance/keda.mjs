// KEDA's schemas, made from its source, check the resources in argv[2]; prints what they object to.
import { ScaledObject } from "@kubernetes-models/keda/keda.sh/v1alpha1/ScaledObject";
import { TriggerAuthentication } from "@kubernetes-models/keda/keda.sh/v1alpha1/TriggerAuthentication";

const models = { ScaledObject, TriggerAuthentication };
const objections = [];
for (const resource of JSON.parse(process.argv[2])) {
  try {
    new models[resource.kind](resource).validate();
  } catch (error) {
    objections.push(error.message);
  }
}
console.log(JSON.stringify(objections));
