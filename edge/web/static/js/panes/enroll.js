export default { id: "enroll", title: "Enroll", mount() {} };
