-- Have whoever changes the hits of a day that is over leave a note of it. The lock that this takes waits for the batches
-- that are being written to that day, so that from its commit on, what is not noted can be seen.
CREATE OR REPLACE TRIGGER counters_late BEFORE INSERT OR UPDATE OR DELETE ON {partition}
FOR EACH ROW EXECUTE FUNCTION counters_note_late({day})
