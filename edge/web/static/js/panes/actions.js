export default { id: "actions", title: "Actions", mount() {} };
