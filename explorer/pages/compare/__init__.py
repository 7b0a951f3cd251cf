"""The Compare page: the verdict on two to six runs, and the same radiograph under each."""
